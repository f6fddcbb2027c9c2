--[[
Adds counts of decisions to the statistics of an hour, and says in a stream of its own how many of them no decision
event tells of: those that were made without asking `admit`. Its own, because every gateway adds to it every second
while somebody is refused: among the audit events that would soon be all there is.

Guarantees  A flush that comes again, because its answer was lost, counts once; one whose event cannot be written, not.
KEYS  1 statistics HASH of the hour  2 flush STRING of the gateway  3 counted STREAM  4 counted-head STRING
ARGV  1 now ms (tests only, else '')  2 ms the hour is kept  3 number of the flush, rising  4 ms a number is remembered
      5 gateway  6 about the decisions without an event ('': there are none)  7 most events kept
      then for each count: field, number (at most 64)
Returns  number of fields counted; 0 of a flush that was counted before
]]
local statistics_key, flush_key, counted_key, head_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, format = redis.call, string.format
if tonumber(call('GET', flush_key) or '0') >= tonumber(ARGV[3]) then return 0 end
-- First: what cannot be recorded is not counted yet, and no script takes back what it wrote.
if ARGV[6] ~= '' then
  audit_append(counted_key, head_key, ARGV[7], {
    'event', 'decisions.counted', 'at', format('%d', now_ms(ARGV[1])), 'by', ARGV[5], 'about', ARGV[6],
  })
end
call('SET', flush_key, ARGV[3], 'PX', ARGV[4])
for i = 8, #ARGV, 2 do call('HINCRBY', statistics_key, ARGV[i], ARGV[i + 1]) end
call('PEXPIRE', statistics_key, ARGV[2])
return (#ARGV - 7) / 2
