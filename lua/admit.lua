--[[
Decides a batch of requests of one scope, in order, and does everything that follows from each decision: rate limits,
pressure, breaker, budgets, idempotency, queue bound; then task record, queue entry, wake-up and decision events.

Guarantees
  - A refused request changes no limiter, budget, breaker or queue key. Only the decision stream grows.
  - An admitted request has consumed all it needs of everything, or it is not admitted.
  - Nothing is written before the last request of the batch has been decided.
  - A caller whose policy revision is older than the scope's is told so, and nothing is decided.

KEYS
  1 scope HASH        2 queue ZSET      3 delayed ZSET    4 lease ZSET      5 task HASH
  6 wake LIST         7 decision STREAM 8 beat ZSET       9 processor HASH
  then for each request: limit STRING, breaker STRING, idempotency STRING (the limit key again, if it has none), and
  one budget STRING per budget
ARGV
  1 now ms (tests only, else '')
  2 'admit', or 'peek' to write nothing at all
  3 settings, packed doubles: policy revision, capacity_buffer, queue_depth_multiplier, hard_limit_threshold,
    max_queue_size, max_delayed, max_decision_events, idempotency ttl ms, service ms until measured, half_open_probes,
    heartbeat interval ms
  4 number of classes, then for each class: user type; packed [threshold d][increment d][windows B] and for each
    window [reason B][kind B][window ms I4][tick ms I4][limit d]
  then for each request: packed [class B][cost I4][flags B: 1 idempotent][deadline ms d][delay ms d][attempts H]
    [budgets B] and for each budget [period B][amount d][estimate d]; task id; body hash; what the decision event says
    about the caller; task body
Returns
  one string per request, packed [code B][which B][retry ms d][depth d][capacity d][wait ms d], for each window
  [held d][reset ms d], for each budget [spent d][held d][reset ms d], and the task id where it was replayed.
  code: 0 admitted, 255 replayed, else the reason (1 burst, 2 hourly, 3 other limit, 4 no live processors,
  5 queue full, 6 hard limit, 7 pressure, 8 deadline unreachable, 9 circuit open, 10 budget, 11 idempotency mismatch).
  which: number of the exhausted window or budget, from 1.
  or error STALEPOLICY <current revision>
]]
local scope_key, queue_key, delayed_key, lease_key, task_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local wake_key, decision_key, beat_key, processor_key = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local request_keys = 9

local call, pack, unpack_struct, format = redis.call, struct.pack, struct.unpack, string.format
local now, now_ceil = now_ms(ARGV[1])
local peek = ARGV[2] == 'peek'
local revision, buffer, multiplier, hard, max_queue, max_delayed, max_decisions, idempotency_ms, service_default,
  probes, beat_ms = unpack_struct('<ddddddddddd', ARGV[3])

-- The scope, once for the whole batch.
local class_count = tonumber(ARGV[4])
local fields = { 'revision', 'virtual', 'service_ms', 'slots', 'processors', 'beats_until' }
for c = 1, class_count do
  local name = ARGV[3 + 2 * c]
  fields[5 + 2 * c], fields[6 + 2 * c] = 'finish:' .. name, 'queued:' .. name
end
local scope = call('HMGET', scope_key, unpack(fields))
local current = tonumber(scope[1]) or 0
if current > revision then return redis.error_reply('STALEPOLICY ' .. format('%.0f', current)) end

local classes = {}
for c = 1, class_count do
  local shapes, packed = {}, ARGV[4 + 2 * c]
  local threshold, increment, windows, at = unpack_struct('<ddB', packed)
  for i = 1, windows do
    local reason, kind, window, tick, limit
    reason, kind, window, tick, limit, at = unpack_struct('<BBI4I4d', packed, at)
    shapes[i] = { kind, window, tick, limit, reason }
  end
  classes[c] = { name = ARGV[3 + 2 * c], threshold = threshold, increment = increment, shapes = shapes,
    finish = tonumber(scope[5 + 2 * c]) or 0, queued = tonumber(scope[6 + 2 * c]) or 0, added = 0 }
end

local virtual, measured_ms = tonumber(scope[2]) or 0, tonumber(scope[3])
local slots, processors = live_slots(beat_key, processor_key, tonumber(scope[4]) or 0, tonumber(scope[5]) or 0,
  tonumber(scope[6]) or math.huge, now)
local capacity = math.floor(slots * (1 - buffer)) + math.floor(slots * multiplier)
local hard_depth = math.floor(capacity * hard)
local service_ms = measured_ms or service_default
local queued = call('ZCARD', queue_key)
local depth = queued + call('ZCARD', lease_key)
local queued_before, delayed = queued, nil

--- Time for the backlog to fall to `target`, at the rate at which the busy slots finish work, ms.
local function drain_ms(target)
  local busy = math.max(1, math.min(slots, depth))
  return (depth - target) * service_ms / busy
end

--- Backpressure: the first reason to refuse or nil, and the longest time the failing checks need.
local function pressure(class, deadline_ms, delay_ms)
  if processors <= 0 then return 4, beat_ms end
  local reason, wait = nil, 0
  if max_queue > 0 and depth >= max_queue then reason, wait = 5, drain_ms(max_queue - 1) end
  if delay_ms > 0 then
    delayed = delayed or call('ZCARD', delayed_key)
    if delayed >= max_delayed then
      local first = call('ZRANGE', delayed_key, '0', '0', 'WITHSCORES')
      reason, wait = reason or 5, math.max(wait, (tonumber(first[2]) or now) - now)
    end
  end
  if depth >= hard_depth then reason, wait = reason or 6, math.max(wait, drain_ms(math.max(0, hard_depth - 1))) end
  local own_depth = math.floor(capacity * class.threshold)
  if depth >= own_depth then reason, wait = reason or 7, math.max(wait, drain_ms(math.max(0, own_depth - 1))) end
  if deadline_ms > 0 and measured_ms then
    local late = delay_ms + math.max(0, depth + 1 - slots) * measured_ms / slots - deadline_ms
    if late > 0 then reason, wait = reason or 8, math.max(wait, late) end
  end
  return reason, wait
end

local subjects, breakers, accounts, replays = {}, {}, {}, {}

--- The subject's windows in the shapes of its class; read once per batch.
local function windows_of(key, class)
  local subject = subjects[key]
  if not subject then
    subject = { class = class, windows = windows_unpack(call('GET', key), class.shapes, now) }
    subjects[key] = subject
  elseif subject.class ~= class then
    subject.windows, subject.class = windows_unpack(windows_pack(subject.windows, now), class.shapes, now), class
  end
  return subject
end

local replies, events, tasks, entries, later, remembered = {}, {}, {}, {}, {}, {}
local key_at, arg_at, admitted = request_keys + 1, 5 + 2 * class_count, 0

for i = 1, (#ARGV - arg_at + 1) / 5 do
  local head, task_id, body_hash, about, body = ARGV[arg_at], ARGV[arg_at + 1], ARGV[arg_at + 2], ARGV[arg_at + 3],
    ARGV[arg_at + 4]
  local limit_key, breaker_key, idempotency_key = KEYS[key_at], KEYS[key_at + 1], KEYS[key_at + 2]
  local class_number, cost, flags, deadline_ms, delay_ms, attempts, budgets, at = unpack_struct('<BI4BddHB', head)
  local class = classes[class_number]
  local code, which, retry_ms, replayed = 0, 0, 0, nil

  -- Idempotency: a repetition is answered before anything is asked of it.
  local mismatch = false
  if flags == 1 then
    local known = replays[idempotency_key]
    if known == nil then
      known = call('GET', idempotency_key)
      replays[idempotency_key] = known
    end
    if known then
      if string.sub(known, 27) == body_hash then
        code, replayed = 255, string.sub(known, 1, 26)
      else
        mismatch = true
      end
    end
  end

  -- Rate limit: every window has room for the whole cost.
  local subject = windows_of(limit_key, class)
  local windows = subject.windows
  if not replayed then
    for n = 1, #windows do
      local w = windows[n]
      local excess = w[HELD] + cost - w[LIMIT]
      if excess > 0 then
        if code == 0 then code, which = class.shapes[n][5], n end
        retry_ms = math.max(retry_ms, window_wait(w, now, excess))
      end
    end
    -- Backpressure.
    local reason, wait = pressure(class, deadline_ms, delay_ms)
    if reason then
      if code == 0 then code = reason end
      retry_ms = math.max(retry_ms, wait)
    end
  end

  -- Circuit breaker: open, or half-open with all its probes out.
  local breaker = breakers[breaker_key]
  if breaker == nil then
    local packed = call('GET', breaker_key)
    breaker = packed and breaker_unpack(packed, now) or false
    breakers[breaker_key] = breaker
  end
  if breaker and not replayed and breaker[1] ~= CLOSED then
    local wait = breaker[1] == OPEN and breaker[2] - now or
      (breaker[4] + breaker[5] >= probes and math.max(1, service_ms) or 0)
    if wait > 0 then
      if code == 0 then code = 9 end
      retry_ms = math.max(retry_ms, wait)
    end
  end

  -- Economics: spent + held + estimate ≤ amount, in every budget.
  local bills = {}
  for n = 1, budgets do
    local period, amount, estimate
    period, amount, estimate, at = unpack_struct('<Bdd', head, at)
    local key = KEYS[key_at + 2 + n]
    local account = accounts[key]
    if not account then
      account = account_unpack(call('GET', key), period, now)
      accounts[key] = account
    end
    bills[n] = { account, estimate }
    if not replayed and account[2] + account[3] + estimate > amount then
      if code == 0 then code, which = 10, n end
      retry_ms = math.max(retry_ms, account[1] - now)
    end
  end

  -- Enqueue: the key of another body.
  if mismatch and code == 0 then code = 11 end

  local wait_ms = 0
  if code == 0 and not peek then
    admitted = admitted + 1
    subject.changed = true
    for n = 1, #windows do window_add(windows[n], now_ceil, cost) end
    local epoch = 0
    if breaker and breaker[1] == HALF_OPEN then
      epoch, breaker[4], breaker.changed = breaker[3], breaker[4] + 1, true
    end
    for n = 1, budgets do
      local account = bills[n][1]
      account[3], account.changed = account[3] + bills[n][2], true
    end
    if flags == 1 then
      replays[idempotency_key] = task_id .. body_hash
      remembered[#remembered + 1] = idempotency_key
    end
    tasks[#tasks + 1] = task_id
    tasks[#tasks + 1] = pack(RECORD, now, deadline_ms > 0 and now + deadline_ms or 0, epoch, attempts, #class.name,
      class.name) .. body
    if delay_ms > 0 then
      delayed = delayed + 1
      later[#later + 1] = format('%.0f', now + delay_ms)
      later[#later + 1] = task_id
      wait_ms = delay_ms
    else
      wait_ms = math.max(0, depth + 1 - slots) * service_ms / math.max(1, slots)
      local tag
      tag, class.finish = order_next(virtual, class.finish, class.increment)
      entries[#entries + 1] = format('%.0f', tag)
      entries[#entries + 1] = task_id
      class.added, queued, depth = class.added + 1, queued + 1, depth + 1
    end
  end

  local reply = { pack('<BBdddd', code, which, retry_ms, depth, capacity, wait_ms) }
  for n = 1, #windows do
    local w = windows[n]
    reply[#reply + 1] = pack('<dd', w[HELD], window_wait(w, now, 1))
  end
  for n = 1, budgets do
    local account = bills[n][1]
    reply[#reply + 1] = pack('<ddd', account[2], account[3], account[1] - now)
  end
  reply[#reply + 1] = replayed
  replies[i] = table.concat(reply)
  events[#events + 1] = about
  events[#events + 1] = pack('<BBddd', code, which, retry_ms, depth, capacity) .. (replayed or '')
  key_at, arg_at = key_at + 3 + budgets, arg_at + 5
end

if peek then return replies end

if admitted > 0 then
  for key, subject in pairs(subjects) do
    if subject.changed then
      local packed, lasts = windows_pack(subject.windows, now)
      call('SET', key, packed, 'PX', format('%.0f', lasts))
    end
  end
  for key, breaker in pairs(breakers) do
    if breaker and breaker.changed then call('SET', key, breaker_pack(breaker), 'PX', '86400000') end
  end
  for key, account in pairs(accounts) do
    if account.changed then account_store(key, account, now) end
  end
  for n = 1, #remembered do
    call('SET', remembered[n], replays[remembered[n]], 'PX', format('%.0f', idempotency_ms))
  end
  call('HSET', task_key, unpack(tasks))
  if #later > 0 then call('ZADD', delayed_key, unpack(later)) end
  if #entries > 0 then
    call('ZADD', queue_key, unpack(entries))
    local changed = {}
    for c = 1, class_count do
      local class = classes[c]
      if class.added > 0 then
        changed[#changed + 1] = 'finish:' .. class.name
        changed[#changed + 1] = format('%.0f', class.finish)
        changed[#changed + 1] = 'queued:' .. class.name
        changed[#changed + 1] = format('%.0f', class.queued + class.added)
      end
    end
    call('HSET', scope_key, unpack(changed))
  end
  -- A queue that was not empty has a token out already, or only busy processors.
  if queued_before == 0 or #later > 0 then wake(wake_key) end
end
call('XADD', decision_key, 'MAXLEN', '~', format('%.0f', max_decisions), '*', 'batch', pack('<dd', revision, now),
  unpack(events))
return replies
