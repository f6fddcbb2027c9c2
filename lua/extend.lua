--[[
Passes last longer. Of one whose response has begun, its class's breaker is told so if it is a probe: it need not wait
for the end of a long exchange.

Guarantees
  - A pass that has ended or lapsed stays so, also while nobody has taken it back; cost does not depend on how many
    passes are in flight.
  - A probe is judged once: by the first call that says how its response began, or by `finish`.
KEYS
  1 pass ZSET  2 pass-record HASH  3 breaker-kind ZSET
  then for each pass: pool ZSET, breaker STRING
ARGV
  1 now ms (tests only, else '')
  2 the rules of breakers, packed, as `settle` takes them
  then for each pass (at most 64): its id; packed [lease ms d][ms from its start to the response's head d, or -1: it has
    not come, or was told before][failed B: 1 if that head says so][rules of the kind's breaker B, from 1, as listed
    above]; kind
Returns  for each: 0 lost, 1 extended
]]
local pass_key, record_key, kind_key = KEYS[1], KEYS[2], KEYS[3]
local call, unpack_struct = redis.call, struct.unpack
local now = now_ms(ARGV[1])
local ids = {}
for i = 3, #ARGV, 3 do ids[#ids + 1] = ARGV[i] end
local expiries, breakers, reply = call('ZMSCORE', pass_key, unpack(ids)), {}, {}
for i = 1, #ids do
  local id, expires = ids[i], tonumber(expiries[i] or nil)
  reply[i] = 0
  if expires and now < expires then
    local lease_ms, answered_ms, failed, rules = unpack_struct('<ddBB', ARGV[3 * i + 1])
    local later = string.format('%d', now + lease_ms)
    call('ZADD', pass_key, later, id)
    call('ZADD', KEYS[2 + 2 * i], later, id)
    reply[i] = 1
    local record = answered_ms >= 0 and call('HGET', record_key, id)
    -- A damaged one says of no probe.
    if record and #record >= struct.size(PASS) then
      local _, epoch = unpack_struct(PASS, record)
      if epoch > 0 then
        local breaker_key, kind = KEYS[3 + 2 * i], ARGV[3 * i + 2]
        rules = breaker_rules(ARGV[2], rules)
        breaker_feed(breakers, breaker_key, kind, rules, failed == 1, answered_ms > rules[SLOW_MS], epoch, now)
        call('HSET', record_key, id, string.sub(record, 1, 8) .. struct.pack('<d', JUDGED) .. string.sub(record, 17))
      end
    end
  end
end
breakers_store(breakers, kind_key, now)
return reply
