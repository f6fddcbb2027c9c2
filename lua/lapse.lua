--[[
Finds passes that have lapsed, for `finish` to end, the first to lapse first: only their records say which budgets they
hold.

Guarantees
  - Nothing that somebody holds is touched: a lapsed pass cannot be extended, and whoever else finds it ends it once.
  - At most 64 passes a call, so a mass failure never blocks the server.

KEYS  1 pass ZSET  2 pass-record HASH
ARGV  1 now ms (tests only, else '')  2 how many of the first to leave out: those that could not be ended before
Returns  for each: its id, its record ('' where it has none)
]]
local call = redis.call
local now = now_ms(ARGV[1])
local first = tonumber(ARGV[2])
-- By rank: how many are left out costs nothing.
local places = call('ZRANGE', KEYS[1], string.format('%d', first), string.format('%d', first + 63), 'WITHSCORES')
local lapsed = {}
for n = 1, #places, 2 do
  if tonumber(places[n + 1]) > now then break end
  lapsed[#lapsed + 1] = places[n]
end
if #lapsed == 0 then return {} end
local reply, records = {}, call('HMGET', KEYS[2], unpack(lapsed))
for i = 1, #lapsed do
  reply[#reply + 1] = lapsed[i]
  reply[#reply + 1] = records[i] or ''
end
return reply
