--[[
Cancels a task. One that waits ends here; one that runs is marked, and its holder learns of it at the next renewal.

Guarantees
  - Whatever a waiting task held is released with it; a task that has ended is left alone.
  - A waiting task of an agent that ends here is in the stream of ends, exactly once, or it does not end.
KEYS
  1 scope STRING  2 queue ZSET  3 delayed ZSET  4 lease ZSET  5 run HASH  6 task HASH  7 cancelled SET
  8 done STRING  9 breaker STRING  10 ended STREAM  11 ended-head STRING  then one budget STRING per hold
ARGV
  1 now ms (tests only, else '')  2 task id  3 result ttl ms  4 channel of changes  5 what is kept of the task
  6 of a task of an agent, what its end says (JSON without the opening brace), else ''  7 most ends kept
  then for each hold: period, estimate
Returns  0 unknown or ended, 1 cancelled, 2 marked
]]
local scope_key, queue_key, delayed_key, lease_key, run_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local task_key, cancelled_key, done_key, breaker_key = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local call = redis.call
local now = now_ms(ARGV[1])
local id, result_ms, about = ARGV[2], ARGV[3], ARGV[6]
if call('EXISTS', done_key) == 1 then return 0 end
local record = call('HGET', task_key, id)
if not record then return 0 end
if call('ZSCORE', lease_key, id) then
  call('SADD', cancelled_key, id)
  return 2
end
if about ~= '' then
  if not (call('ZSCORE', queue_key, id) or call('ZSCORE', delayed_key, id)) then return 0 end
  -- First: nothing ends where it cannot be recorded, and no script takes back what it wrote.
  audit_append(KEYS[10], KEYS[11], ARGV[7], ended_event('task.ended', 'cancelled', 'gateway', about, now))
end
local queued, delayed = call('ZREM', queue_key, id), call('ZREM', delayed_key, id)
if queued + delayed == 0 then return 0 end

local _, _, epoch, _, class = struct.unpack(RECORD, record)
if queued == 1 then count_queued(scope_key, scope_whole(call('GET', scope_key)), { [class] = -1 }, false) end
local run, history = call('HGET', run_key, id), ''
if run then
  local _, _, _, _, _, _, _, at = struct.unpack(RUN, run)
  history = string.sub(run, at)
  call('HDEL', run_key, id)
end
call('HDEL', task_key, id)
call('SET', done_key, struct.pack('<BdH', 6, now, #history) .. history .. ARGV[5], 'PX', result_ms)
-- A probe that never ran makes room for another.
if epoch > 0 then
  local breaker = breaker_unpack(call('GET', breaker_key), now)
  if breaker[1] == HALF_OPEN and breaker[3] == epoch then
    breaker[4] = math.max(0, breaker[4] - 1)
    call('SET', breaker_key, breaker_pack(breaker), 'PX', '86400000')
  end
end
for n = 12, #KEYS do
  local period, estimate = tonumber(ARGV[2 * n - 16]), tonumber(ARGV[2 * n - 15])
  local account = account_unpack(call('GET', KEYS[n]), period, now)
  account[3] = math.max(0, account[3] - estimate)
  account_store(KEYS[n], account, now)
end
call('PUBLISH', ARGV[4], id)
return 1
