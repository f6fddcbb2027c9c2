--[[
Finds passes that have lapsed, for `finish` to end: only their records say which budgets they hold.

Guarantees
  - Nothing that somebody holds is touched: a lapsed pass cannot be extended, and whoever else finds it ends it once.
  - At most 64 passes a call, so a mass failure never blocks the server.

KEYS  1 pass ZSET  2 pass-record HASH
ARGV  1 now ms (tests only, else '')
Returns  for each: its id, its record ('' where it has none)
]]
local call = redis.call
local now = now_ms(ARGV[1])
local lapsed = call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now), 'LIMIT', '0', '64')
if #lapsed == 0 then return {} end
local reply, records = {}, call('HMGET', KEYS[2], unpack(lapsed))
for i = 1, #lapsed do
  reply[#reply + 1] = lapsed[i]
  reply[#reply + 1] = records[i] or ''
end
return reply
