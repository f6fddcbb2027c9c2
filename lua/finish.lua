--[[
Ends passes: their places are free, what they held is committed or released, the breakers of their classes are fed, and
the mean duration of their pools is measured.

Guarantees
  - A pass ends once: one that has ended, or has lapsed by now, changes nothing, so that a call may be repeated.
  - What lapsed is ended as such only (outcome 4): its holds are released and its probe makes room for another. It says
    nothing about the application, because its gateway vanished.
  - A probe whose breaker was told of it when its response began (`extend`) is not told of twice.
  - A pass that ends, in whatever way, is counted out of its pool, and releases or commits all it held, exactly once.
  - Every pass of an agent that ends is in the stream of ends, exactly once, or it does not end. Where that stream
    cannot be written, all the others of the call end.
  - One whose record is gone or damaged ends like any other, but no breaker hears of it.

KEYS
  1 pass ZSET  2 pass-record HASH  3 breaker-kind ZSET
  then for each pass: breaker STRING, pool ZSET, pool-service STRING, and one budget STRING per hold
  then, where one is of an agent: ended STREAM, ended-head STRING
ARGV
  1 now ms (tests only, else '')
  2 the rules of breakers, packed, as `settle` takes them
  3 most ends kept
  then for each pass (at most 64): its id; packed [outcome B][ms from its start to the response's head d, or -1: until
    now][rules of the kind's breaker B, from 1, as listed above][holds B] and for each hold [period B][estimate d]
    [actual d], then, of a pass of an agent, what its end says (JSON without the opening brace); kind, '' if it is not
    known
  outcome: 1 succeeded, 2 failed, 3 abandoned, 4 lapsed
Returns  for each: 1 ended by this call, 0 nothing changed: not to be ended like this, or not any more, 2 nothing
  changed: an agent's, whose end cannot be recorded
]]
local pass_key, record_key, kind_key = KEYS[1], KEYS[2], KEYS[3]
local call, pack, unpack_struct, max = redis.call, struct.pack, struct.unpack, math.max
local now = now_ms(ARGV[1])
local SUCCEEDED, FAILED, LAPSED = 1, 2, 4
local WORD = { 'succeeded', 'failed', 'abandoned', 'lapsed' }
-- Of a hold in a pass's head, bytes.
local HOLD = 17

local ids = {}
for i = 4, #ARGV, 3 do ids[#ids + 1] = ARGV[i] end
local expiries, records = call('ZMSCORE', pass_key, unpack(ids)), call('HMGET', record_key, unpack(ids))

local breakers, accounts, services, ended = {}, {}, {}, {}
local reply, gone, places, ends, recordable = {}, {}, {}, {}, nil
local key_at, arg_at = 4, 4
for i = 1, #ids do
  local id, head, kind = ids[i], ARGV[arg_at + 1], ARGV[arg_at + 2]
  local breaker_key, pool_key, service_key = KEYS[key_at], KEYS[key_at + 1], KEYS[key_at + 2]
  local outcome, answered_ms, rules, holds, at = unpack_struct('<BdBB', head)
  local expires, about_at = tonumber(expiries[i] or nil), at + HOLD * holds
  local acting = about_at <= #head
  if acting and recordable == nil then recordable = ends_recordable(KEYS[#KEYS - 1], KEYS[#KEYS]) end
  if not expires or ended[id] or (now >= expires) ~= (outcome == LAPSED) then
    reply[i] = 0
  elseif acting and not recordable then
    reply[i] = 2
  else
    ended[id], reply[i] = true, 1
    gone[#gone + 1] = id
    places[pool_key] = places[pool_key] or {}
    table.insert(places[pool_key], id)
    if kind ~= '' and #(records[i] or '') >= struct.size(PASS) then
      local started, epoch = unpack_struct(PASS, records[i])
      local failed, slow
      rules = breaker_rules(ARGV[2], rules)
      if outcome == SUCCEEDED then
        failed, slow = false, (answered_ms < 0 and now - started or answered_ms) > rules[SLOW_MS]
      elseif outcome == FAILED then
        failed, slow = true, false
      end
      breaker_feed(breakers, breaker_key, kind, rules, failed, slow, epoch, now)
      if failed ~= nil then
        local took, mean_ms = max(1, now - started), services[service_key]
        mean_ms = mean_ms or pool_service(call('GET', service_key), 0)
        services[service_key] = mean_ms > 0 and mean_ms + (took - mean_ms) / 16 or took
      end
    end
    if acting then
      ends[#ends + 1] = ended_event('pass.ended', WORD[outcome], 'gateway', string.sub(head, about_at), now)
    end
    holds_end(accounts, head, at, key_at + 3, holds, true, now)
  end
  key_at, arg_at = key_at + 3 + holds, arg_at + 3
end

if #gone == 0 then return reply end
-- First: nothing ends where it cannot be recorded, and no script takes back what it wrote.
if #ends > 0 then audit_append_all(KEYS[#KEYS - 1], KEYS[#KEYS], ARGV[3], ends) end
call('ZREM', pass_key, unpack(gone))
call('HDEL', record_key, unpack(gone))
for key, taken in pairs(places) do call('ZREM', key, unpack(taken)) end
for key, mean_ms in pairs(services) do call('SET', key, pack('<d', mean_ms), 'PX', '86400000') end
for key, account in pairs(accounts) do account_store(key, account, now) end
breakers_store(breakers, kind_key, now)
return reply
