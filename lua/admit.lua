--[[
Decides a batch of requests of one scope, in order, and does everything that follows from each decision: rate limits,
pressure, breaker, budgets, idempotency, queue bound; then task record, queue entry, wake-up and decision events. What
asks for a pass is decided in the same way, and takes a place among the passes in flight instead of a queue entry.

Guarantees
  - A refused request changes no limiter, budget, breaker or queue key. Only the decisions' chain grows, and what counts
    once is used up: whoever saw it go by could come back with it.
  - An admitted request has consumed all it needs of everything, or it is not admitted.
  - Nothing is written before the last request of the batch has been decided.
  - A caller that holds another policy than the one stored, or knows of other revocations, is told so, and nothing is
    decided: whoever is revoked is admitted nowhere from then on.
  - A pass counts as load until it ends or lapses: of its class's pool, or of the scope. Neither is ever exceeded,
    whoever asks and however many at once.

KEYS
  1 queue ZSET      2 delayed ZSET    3 lease ZSET      4 task HASH       5 wake LIST
  6 decision STREAM 7 beat ZSET       8 processor HASH  9 pool ZSET       10 pool-service STRING  11 scope STRING
  then, each once: the limit STRING of every session, the breaker STRING of every kind, and every once, idempotency,
  named limit and budget STRING that a request names by its number among the keys from the scope on, counted from 1;
  where passes are asked for, in the same way, the pass ZSET, the pass-record HASH, and a pool ZSET and pool-service
  STRING for each pool of a class's own
ARGV
  1 now ms (tests only, else '')
  2 'admit', or 'peek' to write nothing at all
  3 settings, packed doubles: policy stamp, capacity_buffer, queue_depth_multiplier, hard_limit_threshold,
    max_queue_size, max_delayed, service ms until measured, heartbeat interval ms, number of revocations known
  4 most batches kept in the decision stream
  5 idempotency ttl ms
  6 the policy's named limits, then those of chains of delegations, packed, for each [kind B][window ms I4]
    [tick ms I4][limit d]
  7 number of classes, then for each: its number; ms after which its windows are empty; packed [threshold d]
    [increment d][windows B] and for each window [reason B][kind B][window ms I4][tick ms I4][limit d]
  then the heads: packed [requests B][sessions B][kinds B], for each kind [half-open probes H], [pass key H]
    [pass-record key H] (0: no passes), for each request [class B, from 1, as listed above][session B, from 1]
    [kind B, from 1][cost I4; 0: its session's windows do not apply][flags B: 1 idempotent, 2 a pass, and 4 where it
    has what counts once][deadline ms d][delay ms d][attempts H][named limits B][budgets B], if it has that [once key H]
    [lasts ms I4], if idempotent [key H][length B][body hash], if a pass [lease ms d; 0: a decision without a place]
    [pool key H][pool-service key H] (0: counts as load of the scope) [places d], for each named limit [its number H,
    from 1, as listed above][key H][units d] and for each budget [key H][period B][amount d][estimate d]
  then what the decision event says about the callers, and for each request the id and the body of its task or pass
Returns
  outcomes  for each request packed [code B][which B][retry ms d][depth d][capacity d], and the task id where it was
            replayed
  states    for each request, refused for the reasons 4, 6 and 7, packed [the time that this pressure alone needs, ms
            d]; for each then [wait ms d]: until a processor takes it, or, refused by depth, until the slots run out of
            queued tasks; then for each window and each named limit [held d][reset ms d], for each budget [spent d]
            [held d][reset ms d]
  measured  1 if the service time that waits rest on has been measured, 0 if it is the policy's
  code: 0 admitted, 255 replayed, else the reason (1 burst, 2 hourly, 3 named limit, 4 no live processors,
  5 queue full, 6 hard limit, 7 pressure, 8 deadline unreachable, 9 circuit open, 10 budget, 11 idempotency mismatch,
  12 what counts once was used before).
  which: number of the exhausted window, named limit (they follow the windows) or budget, from 1.
  depth and capacity are the scope's, or of a pass with a pool of its class's own the pool's.
  retry ms: the longest time that a failing gate needs; 0 if one asks for more than its limit or budget ever holds, and
  for the code 12.
  or error STALEPOLICY <stamp stored>, or error STALEREVOCATIONS <number stored>
]]
local queue_key, delayed_key, lease_key, task_key, wake_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local decision_key, beat_key, processor_key, pool_key, scope_key = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[11]
-- Keys are numbered from the scope on.
local BEFORE = 10
local arg_at = 8

local call, pack, unpack_struct, format = redis.call, struct.pack, struct.unpack, string.format
local floor, max, concat, sub = math.floor, math.max, table.concat, string.sub
local now, now_ceil = now_ms(ARGV[1])
local peek = ARGV[2] == 'peek'
local stamp, buffer, multiplier, hard, max_queue, max_delayed, service_default, beat_ms, revocations =
  unpack_struct('<ddddddddd', ARGV[3])

-- All that is kept as strings; the scope once for the whole batch.
local stored = read_strings(BEFORE + 1)
local scope = scope_whole(stored[1])
local current, virtual, _, measured_ms, slots, processors, beats_until, revoked, batches = unpack_struct(SCOPE, scope)
if current ~= stamp then return redis.error_reply('STALEPOLICY ' .. format('%d', current)) end
if revoked ~= revocations then return redis.error_reply('STALEREVOCATIONS ' .. format('%d', revoked)) end
if now >= beats_until then slots, processors = live_slots(beat_key, processor_key, slots, processors, now) end
local capacity = floor(slots * (1 - buffer)) + floor(slots * multiplier)
local hard_depth = floor(capacity * hard)
local service_ms = measured_ms > 0 and measured_ms or service_default
local queued_before = call('ZCARD', queue_key)
-- Load is tasks and passes; only tasks wait for a slot.
local passes = places_taken(pool_key, now)
local depth = queued_before + call('ZCARD', lease_key) + passes
local delayed, earliest = nil, math.huge

local classes = {}
for c = 1, tonumber(ARGV[7]) do
  local number, packed, shapes, reasons = tonumber(ARGV[arg_at]), ARGV[arg_at + 2], {}, {}
  local threshold, increment, windows, at = unpack_struct('<ddB', packed)
  for i = 1, windows do
    local s = 4 * i
    reasons[i], shapes[s - 3], shapes[s - 2], shapes[s - 1], shapes[s], at = unpack_struct('<BBI4I4d', packed, at)
  end
  local finish, queued = class_state(scope, number)
  classes[c] = { number, tonumber(ARGV[arg_at + 1]), floor(capacity * threshold), increment, reasons, shapes, finish,
    queued, 0, threshold }
  arg_at = arg_at + 3
end
local NUMBER, LASTS, DEPTH, INCREMENT, REASONS, SHAPES, FINISH, QUEUED, ADDED, SHARE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10

local heads, about = ARGV[arg_at], ARGV[arg_at + 1]
local requests, sessions, kinds, at = unpack_struct('<BBB', heads)
local probes_of, flight = {}, { pass = {}, record = {}, places = {}, pools = {} }
for k = 1, kinds do probes_of[k], at = unpack_struct('<H', heads, at) end
flight.pass_key, flight.record_key, at = unpack_struct('<HH', heads, at)
arg_at = arg_at + 2

-- By number of session and of kind; by number of key.
local session_windows, session_class, session_changed, breakers = {}, {}, {}, {}
local named, accounts, known_keys = {}, {}, {}
local outcomes, states, tasks, entries, later, remembered, admitted = {}, {}, {}, {}, {}, {}, false
local used = not peek and {}

for i = 1, requests do
  local task_id = ARGV[arg_at]
  local class_number, session, kind, cost, flags, deadline_ms, delay_ms, attempts, limits, budgets
  class_number, session, kind, cost, flags, deadline_ms, delay_ms, attempts, limits, budgets, at =
    unpack_struct('<BBBI4BddHBB', heads, at)
  local class = classes[class_number]
  local code, which, retry_ms, pressure_ms, hopeless, replayed, mismatch = 0, 0, 0, nil, false, nil, false

  -- Session: whoever shows again what counts once has no claim to what it was answered the first time either.
  if flags >= 4 then
    flags = flags - 4
    code, at = once_use(heads, at, stored, used)
    hopeless = code > 0
  end

  -- Idempotency: a repetition is answered before anything is asked of it.
  local idempotency, body_hash
  if flags == 1 then
    idempotency, body_hash, at = unpack_struct('<HBc0', heads, at)
    local known = known_keys[idempotency] or stored[idempotency]
    if known and code == 0 then
      if sub(known, 27) == body_hash then
        code, replayed = 255, sub(known, 1, 26)
      else
        mismatch = true
      end
    end
  end

  local lease_ms, pool
  if flags == 2 then lease_ms, pool, at = pass_terms(heads, at, flight, stored, BEFORE, service_default, now) end

  -- Rate limit: every window has room for the whole cost.
  local windows = session_windows[session]
  if not windows then
    windows = windows_unpack(stored[1 + session], class[SHAPES], now)
    session_windows[session], session_class[session] = windows, class
  elseif session_class[session] ~= class then
    windows = windows_unpack(windows_pack(windows, 0), class[SHAPES], now)
  end
  local places = #windows
  if not replayed and cost > 0 then
    for b = 0, places - 8, 8 do
      local excess = windows[b + HELD] + cost - windows[b + LIMIT]
      if excess > 0 then
        if code == 0 then
          which = b / 8 + 1
          code = class[REASONS][which]
        end
        if cost > windows[b + LIMIT] then hopeless = true end
        retry_ms = max(retry_ms, window_wait(windows, b, now, excess))
      end
    end
  end
  local uses
  if limits > 0 then
    uses = {}
    for n = 1, limits do
      local number, key, units
      number, key, units, at = unpack_struct('<HHd', heads, at)
      local window = named[key]
      if not window then
        window = windows_unpack(stored[key], limit_shape(ARGV[6], number), now)
        named[key] = window
      end
      local u = 3 * n
      uses[u - 2], uses[u - 1], uses[u] = window, units, number
      local excess = window[HELD] + units - window[LIMIT]
      -- Who asks for nothing is not held up by what others have used.
      if excess > 0 and units > 0 and not replayed then
        if code == 0 then code, which = 3, places / 8 + n end
        if units > window[LIMIT] then hopeless = true end
        retry_ms = max(retry_ms, window_wait(window, 0, now, excess))
      end
    end
  end

  if not replayed then
    -- Backpressure.
    if pool then
      local reason, wait = pool_refusal(pool, class[SHARE], hard)
      if code == 0 and reason > 0 then code, pressure_ms = reason, wait end
      retry_ms = max(retry_ms, wait)
    elseif processors <= 0 or slots <= 0 then
      if code == 0 then code, pressure_ms = 4, beat_ms end
      retry_ms = max(retry_ms, beat_ms)
    else
      local reason, excess = 0, 0
      if max_queue > 0 and depth >= max_queue then reason, excess = 5, depth - max_queue + 1 end
      if delay_ms > 0 then
        delayed = delayed or call('ZCARD', delayed_key)
        if delayed >= max_delayed then
          if reason == 0 then reason = 5 end
          local first = tonumber(call('ZRANGE', delayed_key, '0', '0', 'WITHSCORES')[2]) or earliest
          first = math.min(first, earliest)
          if first < math.huge then retry_ms = max(retry_ms, first - now) end
        end
      end
      if depth >= hard_depth then
        if reason == 0 then reason = 6 end
        excess = max(excess, depth - max(0, hard_depth - 1))
      end
      if depth >= class[DEPTH] then
        if reason == 0 then reason = 7 end
        excess = max(excess, depth - max(0, class[DEPTH] - 1))
      end
      if excess > 0 then
        local wait = drain_ms(excess, slots, service_ms, depth - passes, passes, KEYS[10])
        -- A full queue is told to nobody else, a deadline is the asker's own.
        if code == 0 and reason > 5 then pressure_ms = wait end
        retry_ms = max(retry_ms, wait)
      end
      if deadline_ms > 0 and measured_ms > 0 then
        local late = delay_ms + max(0, depth - passes + 1 - slots) * measured_ms / slots - deadline_ms
        if late > 0 then
          if reason == 0 then reason = 8 end
          retry_ms = max(retry_ms, late)
        end
      end
      if code == 0 then code = reason end
    end
  end

  -- Circuit breaker: open, or half-open with all its probes out; or there is nobody who would tell of a probe.
  local breaker, probes = breakers[kind], probes_of[kind]
  if breaker == nil then
    local packed = stored[1 + sessions + kind]
    breaker = packed and breaker_unpack(packed, now)
    breakers[kind] = breaker
    -- It waits for probes that the policy no longer asks for.
    if breaker and breaker[1] == HALF_OPEN and breaker[5] >= probes then
      breaker[1], breaker[4], breaker[5], breaker.passed = CLOSED, 0, 0, true
    end
  end
  if breaker and not replayed and breaker[1] ~= CLOSED then
    local wait = 0
    if breaker[1] == OPEN then
      wait = breaker[2] - now
    elseif lease_ms == 0 or breaker[4] + breaker[5] >= probes then
      wait = max(1, service_ms)
    end
    if wait > 0 then
      if code == 0 then code = 9 end
      retry_ms = max(retry_ms, wait)
    end
  end

  -- Economics: spent + held + estimate ≤ amount, in every budget.
  local bills
  if budgets > 0 then
    bills = {}
    for n = 1, budgets do
      local key, period, amount, estimate
      key, period, amount, estimate, at = unpack_struct('<HBdd', heads, at)
      local account = accounts[key]
      if not account then
        account = account_unpack(stored[key], period, now)
        accounts[key] = account
      end
      bills[2 * n - 1], bills[2 * n] = account, estimate
      if not replayed and account[2] + account[3] + estimate > amount then
        if code == 0 then code, which = 10, n end
        if estimate > amount then hopeless = true end
        retry_ms = max(retry_ms, account[1] - now)
      end
    end
  end

  -- Enqueue: the key of another body.
  if mismatch and code == 0 then code = 11 end
  if hopeless then retry_ms = 0 end

  local wait_ms = 0
  if (code == 6 or code == 7) and not pool then wait_ms = max(0, depth - passes - slots) * service_ms / slots end
  if code == 0 and not peek then
    admitted = true
    if cost > 0 then
      session_windows[session], session_class[session], session_changed[session] = windows, class, class[LASTS]
      for b = 0, places - 8, 8 do window_add(windows, b, now_ceil, cost) end
    end
    for u = 3, 3 * limits, 3 do
      local window, units = uses[u - 2], uses[u - 1]
      if units > 0 then
        window_add(window, 0, now_ceil, units)
        window.lasts = limit_lasts[uses[u]]
      end
    end
    local epoch = 0
    if breaker and breaker.passed then breaker.changed = true end
    if breaker and breaker[1] == HALF_OPEN then
      epoch, breaker[4], breaker.changed = breaker[3], breaker[4] + 1, true
    end
    -- Without a place nobody will tell what was used: the estimate is spent.
    local share = lease_ms == 0 and 2 or 3
    for n = 1, 2 * budgets, 2 do
      local account = bills[n]
      account[share], account.changed = account[share] + bills[n + 1], true
    end
    if flags == 1 then
      known_keys[idempotency] = task_id .. body_hash
      remembered[#remembered + 1] = idempotency
    end
    if not lease_ms then
      local t = #tasks
      tasks[t + 1] = task_id
      tasks[t + 2] = pack(RECORD, now, deadline_ms > 0 and now + deadline_ms or 0, epoch, attempts, class[NUMBER])
        .. ARGV[arg_at + 1]
    end
    if lease_ms then
      local place = pass_take(flight, pool, pool_key, task_id, lease_ms, epoch, ARGV[arg_at + 1], now)
      if not pool then passes, depth = passes + place, depth + place end
    elseif delay_ms > 0 then
      delayed, earliest = delayed + 1, math.min(earliest, now + delay_ms)
      later[#later + 1] = format('%d', now + delay_ms)
      later[#later + 1] = task_id
      wait_ms = delay_ms
    else
      if depth - passes >= slots then wait_ms = (depth - passes + 1 - slots) * service_ms / slots end
      local tag
      tag, class[FINISH] = order_next(virtual, class[FINISH], class[INCREMENT])
      local e = #entries
      entries[e + 1], entries[e + 2] = format('%d', tag), task_id
      class[ADDED], depth = class[ADDED] + 1, depth + 1
    end
  end

  local outcome = pool and pack('<BBddd', code, which, retry_ms, pool.taken, pool.places)
    or pack('<BBddd', code, which, retry_ms, depth, capacity)
  outcomes[i] = replayed and outcome .. replayed or outcome
  local state = state_pack(wait_ms, windows, uses, bills, now)
  states[i] = pressure_ms and pack('<d', pressure_ms) .. state or state
  arg_at = arg_at + 2
end

local outcome = concat(outcomes)
local reply = { outcome, concat(states), measured_ms > 0 and 1 or 0 }
if peek then return reply end

-- First: nobody is admitted where it cannot be recorded, and no script takes back what it wrote.
local prev = batches > 0 and sub(scope, 73, 112) or CHAIN_BEGIN
local entry = { 'n', format('%d', batches + 1), 'batch', pack('<dd', stamp, now), 'about', about, 'outcome', outcome }
local hash = chain_hash(prev, entry)
call('XADD', decision_key, 'MAXLEN', '~', ARGV[4], '*', 'prev', prev, 'hash', hash, unpack(entry))
call('SETRANGE', scope_key, CHAIN_AT, pack('<d', batches + 1) .. hash)
once_store(used, BEFORE)
if admitted then
  for session = 1, sessions do
    local lasts = session_changed[session]
    if lasts then
      windows_store(KEYS[BEFORE + 1 + session], stored[1 + session], session_windows[session], lasts, now)
    end
  end
  for key, window in pairs(named) do
    if window.lasts then windows_store(KEYS[BEFORE + key], stored[key], window, window.lasts, now) end
  end
  for kind = 1, kinds do
    local breaker = breakers[kind]
    if breaker and breaker.changed then
      call('SET', KEYS[BEFORE + 1 + sessions + kind], breaker_pack(breaker), 'PX', '86400000')
    end
  end
  for key, account in pairs(accounts) do
    if account.changed then account_store(KEYS[BEFORE + key], account, now) end
  end
  for n = 1, #remembered do
    local key = remembered[n]
    call('SET', KEYS[BEFORE + key], known_keys[key], 'PX', ARGV[5])
  end
  passes_store(flight, BEFORE)
  if #tasks > 0 then call('HSET', task_key, unpack(tasks)) end
  if #later > 0 then call('ZADD', delayed_key, unpack(later)) end
  if #entries > 0 then
    call('ZADD', queue_key, unpack(entries))
    for c = 1, #classes do
      local class = classes[c]
      if class[ADDED] > 0 then
        call('SETRANGE', scope_key, format('%d', CLASS_AT + 16 * class[NUMBER]),
          pack('<dd', class[FINISH], class[QUEUED] + class[ADDED]))
      end
    end
  end
  -- A queue that was not empty has a token out already, or only busy processors.
  if #tasks > 0 and (queued_before == 0 or #later > 0) then wake(wake_key) end
end
return reply
