--[[
Passes last longer.

Guarantees  A pass that has ended or lapsed stays so, also while nobody has taken it back; cost does not depend on how
  many passes are in flight.
KEYS  1 pass ZSET  then for each pass: pool ZSET
ARGV  1 now ms (tests only, else '')  then for each pass: its id, lease ms (at most 64)
Returns  for each: 0 lost, 1 extended
]]
local pass_key = KEYS[1]
local call = redis.call
local now = now_ms(ARGV[1])
local ids = {}
for i = 2, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local expiries, reply = call('ZMSCORE', pass_key, unpack(ids)), {}
for i = 1, #ids do
  local expires = tonumber(expiries[i] or nil)
  reply[i] = 0
  if expires and now < expires then
    local later = string.format('%d', now + tonumber(ARGV[2 * i + 1]))
    call('ZADD', pass_key, later, ids[i])
    call('ZADD', KEYS[1 + i], later, ids[i])
    reply[i] = 1
  end
end
return reply
