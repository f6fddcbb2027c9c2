--[[
Ends attempts: succeeded, failed, to be retried, cancelled, expired, dead, or handed back. Commits or releases what the
task held, feeds the breaker and the measured service time, and keeps the outcome readable.

Guarantees
  - A settlement whose fencing token is not the task's newest changes nothing.
  - Every task that ends releases all it held, exactly once; cost does not depend on how many tasks are in flight.
  - Tasks that end because their caller's credential was revoked are in the audit stream, one event a call. Where that
    event cannot be written, nothing of the call is: whoever settles has to send the others without them.
  - Every task of an agent that ends is in the stream of ends, exactly once, or it does not end.
  - An attempt to be retried ends the task instead if it was the last allowed (dead) or the task was cancelled.

KEYS
  1 scope STRING  2 queue ZSET  3 delayed ZSET  4 lease ZSET  5 run HASH  6 task HASH  7 dead ZSET  8 wake LIST
  9 cancelled SET  10 breaker-kind ZSET  11 audit STREAM  12 audit-head STRING
  then for each settlement: done STRING, breaker STRING, and one budget STRING per hold
  then, where one is of a task of an agent: ended STREAM, ended-head STRING
ARGV
  1 now ms (tests only, else '')
  2 settings, packed doubles: result ttl ms, most dead letters, most audit events kept, most ends kept
  3 channel of changes
  4 the rules of breakers, packed doubles, for each: window ms, open ms, slow ms, minimum calls, half-open probes,
    failure rate, slow call rate
  then for each settlement: task id; packed [token d][outcome B][after ms d][probe epoch d][rules of the kind's breaker
    B, from 1, as listed above][holds B] and for each hold [period B][estimate d][actual d, or -1 for the estimate],
    then, of a task of an agent, what its end says (JSON without the opening brace); kind; what is kept of the task
    besides its status (only Rust reads it)
  outcome: 1 succeeded, 2 failed, 3 retry, 4 cancelled, 5 expired, 6 dead, 7 handed back, 8 cancelled because revoked
Returns  for each: 0 stale, 1 queued, 2 retry waits, 3 succeeded, 4 failed, 5 dead, 6 cancelled, 7 expired
]]
local scope_key, queue_key, delayed_key, lease_key, run_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local task_key, dead_key, wake_key, cancelled_key, kind_key = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local key_at = 13
local call, pack, unpack_struct, format, max = redis.call, struct.pack, struct.unpack, string.format, math.max
local now = now_ms(ARGV[1])
local result_ms, max_dead, max_events, max_ends = unpack_struct('<dddd', ARGV[2])
local channel, result_px = ARGV[3], format('%d', result_ms)
local SUCCEEDED, FAILED, RETRY, CANCELLED, EXPIRED, DEAD, HANDED_BACK, REVOKED = 1, 2, 3, 4, 5, 6, 7, 8
local STATUS = { 3, 4, 2, 6, 7, 5, 1 }
local WORD = { [3] = 'succeeded', [4] = 'failed', [5] = 'dead', [6] = 'cancelled', [7] = 'expired' }
-- Of a hold in a settlement's head, bytes.
local HOLD = 17

local ids = {}
for i = 5, #ARGV, 4 do ids[#ids + 1] = ARGV[i] end
local runs = call('HMGET', run_key, unpack(ids))
local cancelled = call('SCARD', cancelled_key) > 0 and call('SMISMEMBER', cancelled_key, unpack(ids))

local breakers, accounts, settled = {}, {}, {}
local scope = scope_whole(call('GET', scope_key))
local _, _, _, service_ms = unpack_struct(SCOPE, scope)
local service_changed, revoked = false, {}
local reply, over, gone, waiting, changed, rerun, later, front, dead, released = {}, {}, {}, {}, {}, {}, {}, {}, {}, {}
local outcomes, ends = {}, {}

local arg_at = 5
for i = 1, #ids do
  local id, head, kind, kept = ids[i], ARGV[arg_at + 1], ARGV[arg_at + 2], ARGV[arg_at + 3]
  local done_key, breaker_key = KEYS[key_at], KEYS[key_at + 1]
  local token, outcome, after_ms, epoch, rules, holds, at = unpack_struct('<dBddBB', head)
  local run, held_token, run_count, spared, attempts, purpose, started, class, history_at = runs[i], nil
  if run then
    held_token, run_count, spared, attempts, purpose, started, class, history_at = unpack_struct(RUN, run)
  end
  if held_token ~= token or settled[id] then
    reply[i] = 0
  else
    settled[id], rules = true, breaker_rules(ARGV[4], rules)
    local history = string.sub(run, history_at)
    -- One that was revoked was claimed to be run, and was not.
    if outcome == REVOKED then
      outcome, revoked[#revoked + 1] = CANCELLED, id
    elseif purpose == RUN_PURPOSE then
      history = history .. pack('<dd', started, now)
    end
    local was_cancelled = cancelled and cancelled[i] == 1
    local failed, slow
    if outcome == SUCCEEDED or outcome == FAILED then
      failed, slow = false, now - started > rules[SLOW_MS]
    elseif outcome == RETRY or outcome == DEAD then
      failed, slow = true, false
    end
    if purpose == RUN_PURPOSE and failed ~= nil then
      local took = max(1, now - started)
      service_ms, service_changed = service_ms > 0 and service_ms + (took - service_ms) / 16 or took, true
    end
    if outcome == RETRY or outcome == HANDED_BACK then
      if was_cancelled then
        outcome = CANCELLED
      elseif run_count - spared >= attempts and (outcome == RETRY or purpose == BURY_PURPOSE) then
        outcome = DEAD
      end
    end
    -- A probe that was handed back is still out. A record that could not be read says nothing about any kind.
    if outcome ~= HANDED_BACK and kind ~= '' then
      breaker_feed(breakers, breaker_key, kind, rules, failed, slow, epoch, now)
    end
    reply[i] = STATUS[outcome]
    released[#released + 1] = id
    changed[#changed + 1] = id
    if outcome == RETRY or outcome == HANDED_BACK then
      if outcome == HANDED_BACK and purpose == RUN_PURPOSE then spared = spared + 1 end
      rerun[#rerun + 1] = id
      rerun[#rerun + 1] = pack(RUN, 0, run_count, spared, attempts, RUN_PURPOSE, 0, class) .. history
      if outcome == RETRY then
        later[#later + 1] = format('%d', now + after_ms)
        later[#later + 1] = id
      else
        front[#front + 1] = ORDER_FIRST
        front[#front + 1] = id
        waiting[class] = (waiting[class] or 0) + 1
      end
    else
      gone[#gone + 1] = id
      if outcome == DEAD then
        dead[#dead + 1] = format('%d', now)
        dead[#dead + 1] = id
      else
        over[#over + 1] = id
      end
      outcomes[#outcomes + 1] = done_key
      outcomes[#outcomes + 1] = pack('<BdH', STATUS[outcome], now, #history) .. history .. kept
      local about_at = at + HOLD * holds
      if about_at <= #head then
        local status = WORD[STATUS[outcome]]
        ends[#ends + 1] = ended_event('task.ended', status, 'processor', string.sub(head, about_at), now)
      end
      holds_end(accounts, head, at, key_at + 2, holds, outcome == SUCCEEDED or outcome == FAILED, now)
    end
  end
  key_at, arg_at = key_at + 2 + holds, arg_at + 4
end

if #released == 0 then return reply end
local ended_key, ended_head_key = KEYS[#KEYS - 1], KEYS[#KEYS]
if #ends > 0 and #revoked > 0 then
  -- In both streams or in none: these fail where the second could not be written.
  call('XLEN', ended_key)
  call('STRLEN', ended_head_key)
end
-- First: nothing ends where it cannot be recorded, and no script takes back what it wrote.
if #revoked > 0 then
  audit_append(KEYS[11], KEYS[12], format('%d', max_events), {
    'event', 'tasks.revoked', 'at', format('%d', now), 'by', 'processor',
    'about', '{"tasks":["' .. table.concat(revoked, '","') .. '"]}',
  })
end
if #ends > 0 then audit_append_all(ended_key, ended_head_key, format('%d', max_ends), ends) end
for n = 1, #outcomes, 2 do call('SET', outcomes[n], outcomes[n + 1], 'PX', result_px) end
call('ZREM', lease_key, unpack(released))
if #gone > 0 then
  call('HDEL', run_key, unpack(gone))
  if cancelled then call('SREM', cancelled_key, unpack(gone)) end
end
if #over > 0 then call('HDEL', task_key, unpack(over)) end
if #rerun > 0 then call('HSET', run_key, unpack(rerun)) end
if #later > 0 then call('ZADD', delayed_key, unpack(later)) end
if #front > 0 then
  call('ZADD', queue_key, unpack(front))
  count_queued(scope_key, scope, waiting, false)
end
if #front > 0 or #later > 0 then wake(wake_key) end
if #dead > 0 then
  call('ZADD', dead_key, unpack(dead))
  local excess = math.min(64, call('ZCARD', dead_key) - max_dead)
  if excess > 0 then
    local oldest = call('ZPOPMIN', dead_key, format('%d', excess))
    for n = 1, #oldest, 2 do call('HDEL', task_key, oldest[n]) end
  end
end
if service_changed then call('SETRANGE', scope_key, SERVICE_AT, pack('<d', service_ms)) end
for key, account in pairs(accounts) do account_store(key, account, now) end
breakers_store(breakers, kind_key, now)
call('PUBLISH', channel, table.concat(changed))
return reply
