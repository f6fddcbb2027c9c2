--[[
The scope at one moment: depths, live capacity, service time. Reads only.

KEYS  1 scope STRING  2 queue ZSET  3 delayed ZSET  4 lease ZSET  5 dead ZSET  6 task HASH  7 beat ZSET
      8 processor HASH  then any number of pool ZSETs
ARGV  1 now ms (tests only, else '')
Returns  {now, queued, running, delayed, dead, slots, live processors, created ms of the next task or -1,
          scope, then for each pool passes in flight}
]]
local scope_key, queue_key, delayed_key, lease_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local dead_key, task_key, beat_key, processor_key = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local call = redis.call
local now = now_ms(ARGV[1])
local scope = scope_whole(call('GET', scope_key))
local _, _, _, _, slots, processors, until_ms = struct.unpack(SCOPE, scope)
if now >= until_ms then slots, processors = live_slots(beat_key, processor_key, slots, processors, now) end
local next_task, created = call('ZRANGE', queue_key, '0', '0'), -1
if next_task[1] then
  local record = call('HGET', task_key, next_task[1])
  if record then created = struct.unpack('<d', record) end
end
local reply = { now, call('ZCARD', queue_key), call('ZCARD', lease_key), call('ZCARD', delayed_key),
  call('ZCARD', dead_key), slots, processors, created, scope }
for n = 9, #KEYS do reply[#reply + 1] = places_taken(KEYS[n], now) end
return reply
