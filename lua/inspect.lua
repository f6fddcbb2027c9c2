--[[
Everything the store knows about a task, read at one moment.

KEYS  1 task HASH  2 run HASH  3 lease ZSET  4 done STRING
ARGV  1 task id
Returns  {done or false, record or false, run or false, 1 if leased else 0}
]]
local task_key, run_key, lease_key, done_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local done = redis.call('GET', done_key)
if done then return { done, false, false, 0 } end
local record = redis.call('HGET', task_key, ARGV[1])
if not record then return { false, false, false, 0 } end
local leased = redis.call('ZSCORE', lease_key, ARGV[1])
return { false, record, redis.call('HGET', run_key, ARGV[1]), leased and 1 or 0 }
