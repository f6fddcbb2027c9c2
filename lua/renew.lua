--[[
Extends leases whose holder proves them, and tells it which of its tasks have been cancelled.

Guarantees
  - Only the newest lease of a task is extended; cost does not depend on how many leases there are.
  - A call under another policy than the stored one never makes a lease end sooner: it may have been held up while its
    holder renewed for longer under the policy that came after.

KEYS  1 lease ZSET  2 run HASH  3 cancelled SET  4 scope STRING
ARGV  1 now ms (tests only, else '')  2 lease ms  3 policy stamp  then for each lease: task id, token (at most 64)
Returns  for each: 0 lost, 1 held, 2 held and cancelled
]]
local lease_key, run_key, cancelled_key, scope_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = now_ms(ARGV[1])
local expires = string.format('%d', now + tonumber(ARGV[2]))
local ids = {}
for i = 4, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local runs = redis.call('HMGET', run_key, unpack(ids))
local cancelled = redis.call('SCARD', cancelled_key) > 0 and redis.call('SMISMEMBER', cancelled_key, unpack(ids))
local reply, extended = {}, {}
for i = 1, #ids do
  local token = runs[i] and struct.unpack('<d', runs[i])
  if token == tonumber(ARGV[2 * i + 3]) then
    extended[#extended + 1] = expires
    extended[#extended + 1] = ids[i]
    reply[i] = cancelled and cancelled[i] == 1 and 2 or 1
  else
    reply[i] = 0
  end
end
if #extended > 0 then
  local stored = redis.call('GETRANGE', scope_key, '0', '7')
  local stamp = #stored == 8 and struct.unpack('<d', stored) or 0
  if stamp == tonumber(ARGV[3]) then
    redis.call('ZADD', lease_key, 'XX', unpack(extended))
  else
    redis.call('ZADD', lease_key, 'XX', 'GT', unpack(extended))
  end
end
return reply
