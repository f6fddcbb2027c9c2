--[[
Notes as what a principal gives out a credential, beside what it gave out lately.

Guarantees
  - Whatever is noted at once and in whichever order, the highest type stays, and the newest word about it, for as long
    as the longest of them was to be kept.

KEYS  1 grant STRING: [as of, ms since the epoch] [rank] [user type], with spaces between
ARGV  1 as of  2 rank of the user type, higher is more  3 user type  4 ms to keep it
Returns  1
]]
local as_of, rank, user_type = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local noted = redis.call('GET', KEYS[1])
if noted then
  local noted_as_of, noted_rank, noted_type = string.match(noted, '^(%d+) (%d+) (.+)$')
  if tonumber(noted_rank or -1) > rank then rank, user_type = noted_rank, noted_type end
  as_of = math.max(as_of, tonumber(noted_as_of or 0))
end
local lasts = math.max(tonumber(ARGV[4]), redis.call('PTTL', KEYS[1]))
noted = string.format('%.0f', as_of) .. ' ' .. rank .. ' ' .. user_type
redis.call('SET', KEYS[1], noted, 'PX', string.format('%d', lasts))
return 1
