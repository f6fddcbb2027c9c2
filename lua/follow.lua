--[[
A gateway says which policy it holds and hears which is stored: its heartbeat in this scope, and the slow poll that
finds what a lost message would have told. Gateways not heard of for ten times the timeout are forgotten.

KEYS  1 scope STRING  2 gateway HASH
ARGV  1 now ms (tests only, else '')  2 name  3 stamp held  4 timeout ms
      5 what else it says (only Rust reads it)
Returns  the stamp stored now
]]
local scope_key, gateway_key = KEYS[1], KEYS[2]
local call, format = redis.call, string.format
local now, stamp, timeout_ms = now_ms(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])
local reports, since, gone = call('HGETALL', gateway_key), now, {}
for i = 1, #reports, 2 do
  local held, held_since, _, until_ms = struct.unpack(REPORT, reports[i + 1])
  if reports[i] == ARGV[2] then
    if held == stamp then since = held_since end
  elseif until_ms + 9 * timeout_ms <= now and #gone < 512 then
    gone[#gone + 1] = reports[i]
  end
end
if #gone > 0 then call('HDEL', gateway_key, unpack(gone)) end
call('HSET', gateway_key, ARGV[2], struct.pack(REPORT, stamp, since, now, now + timeout_ms) .. ARGV[5])
call('PEXPIRE', gateway_key, format('%d', 10 * timeout_ms))
local stored = call('GETRANGE', scope_key, '0', '7')
if #stored < 8 then return 0 end
return (struct.unpack('<d', stored))
