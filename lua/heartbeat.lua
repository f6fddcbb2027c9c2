--[[
A processor says that it lives, how many slots it has, and whether it accepts work. Keeps the scope's sums of slots and
accepting processors, and sweeps out processors that have not been heard of: one that fell silent while it accepted
work stays to be seen for another minute, in which it counts for nothing.

Guarantees  The sums are exact after every call; a draining processor counts for nothing from this call on.
KEYS  1 scope STRING  2 processor HASH  3 beat ZSET
ARGV  1 now ms (tests only, else '')  2 heartbeat timeout ms  3 worker  4 slots  5 accepting 1 or 0  6 what else it says
      7 policy stamp it holds
Returns  the policy stamp stored now, so that a lost message is made good by the next heartbeat
]]
-- How long, and beside how many: in a larger scope they are swept at once, because whoever looks reads them all.
local SILENT_MS, SILENT_MOST = 60000, 1000
local scope_key, processor_key, beat_key = KEYS[1], KEYS[2], KEYS[3]
local call, format = redis.call, string.format
local now = now_ms(ARGV[1])
local worker, slots, accepting = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

local stamp, since = tonumber(ARGV[7]), now
local stored, _, _, _, slots_sum, processors_sum = struct.unpack(SCOPE, scope_whole(call('GET', scope_key)))
local gone = call('ZRANGEBYSCORE', beat_key, '-inf', format('%d', now), 'LIMIT', '0', '512')
gone[#gone + 1] = worker
local beats = call('HMGET', processor_key, unpack(gone))
local silent, seen_until = {}, {}
for i = 1, #gone do
  -- The caller's own former beat is taken off too, once, even if it had lapsed.
  if beats[i] and (gone[i] ~= worker or i == #gone) then
    local counted, count, _, held, held_since = struct.unpack(HEARTBEAT, beats[i])
    if gone[i] == worker and held == stamp then since = held_since end
    slots_sum, processors_sum = slots_sum - count * counted, processors_sum - counted
    if gone[i] ~= worker and counted == 1 then
      silent[#silent + 1], silent[#silent + 2] = gone[i], struct.pack('B', 0) .. string.sub(beats[i], 2)
      seen_until[#seen_until + 1], seen_until[#seen_until + 2] = format('%d', now + SILENT_MS), gone[i]
    end
  end
end
if #gone > 1 then
  call('ZREM', beat_key, unpack(gone))
  call('HDEL', processor_key, unpack(gone))
end
if #silent > 0 and call('ZCARD', beat_key) < SILENT_MOST then
  call('HSET', processor_key, unpack(silent))
  call('ZADD', beat_key, unpack(seen_until))
end
slots_sum, processors_sum = slots_sum + slots * accepting, processors_sum + accepting
call('HSET', processor_key, worker, struct.pack(HEARTBEAT, accepting, slots, now, stamp, since) .. ARGV[6])
call('ZADD', beat_key, format('%d', now + tonumber(ARGV[2])), worker)
local first = call('ZRANGE', beat_key, '0', '0', 'WITHSCORES')
call('SETRANGE', scope_key, SLOTS_AT, struct.pack('<ddd', slots_sum, processors_sum, tonumber(first[2])))
return stored
