--[[
Leases waiting tasks to a processor: first in the queue's order, each under a fencing token greater than any before.
Tasks whose delayed start or backoff is over join the queue first.

Guarantees
  - A task is handed to one processor only; the lease lapses by itself.
  - A task whose deadline has passed is handed out only to be ended.
  - While tasks wait, a token is out for the next idle processor.
  - A call reads and hands out at most 1 MiB of records and the eight it then reads last, but at least one.
  - Whoever holds another number of revocations than it returns reads them before running anything.
  - A record that cannot be read is handed out like any other, and to be ended by who claims it.

KEYS  1 scope STRING  2 queue ZSET  3 delayed ZSET  4 lease ZSET  5 run HASH  6 task HASH  7 wake LIST
ARGV  1 now ms (tests only, else '')  2 most tasks to lease (at most 64)  3 lease ms  4 channel of changes
Returns  {now, number of revocations, waiting after this claim, ms until the next delayed task is due or -1,
          then for each lease: task id, token, run number, attempts allowed, purpose, record}
]]
local scope_key, queue_key, delayed_key, lease_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local run_key, task_key, wake_key = KEYS[5], KEYS[6], KEYS[7]
local call, pack, unpack_struct, format = redis.call, struct.pack, struct.unpack, string.format
local now = now_ms(ARGV[1])
local most, lease_ms, channel = math.min(64, tonumber(ARGV[2])), tonumber(ARGV[3]), ARGV[4]

--- Deadline, attempts allowed and class of a record. One too short to say is a task without deadline and with one
-- attempt: an error here would lose what was popped with it.
local function record_unpack(record)
  if #record < struct.size(RECORD) then return 0, 1, 0 end
  local _, deadline, _, attempts, class = unpack_struct(RECORD, record)
  return deadline, attempts, class
end

local scope = scope_whole(call('GET', scope_key))
local _, virtual, token, _, _, _, _, revocations = unpack_struct(SCOPE, scope)
local counts = {}

-- Records are read a few at a time: all at once, the largest payloads would hold up the server and fill one answer.
local READ, BYTES_MAX = 8, 1048576

--- Appends the records of the next few of `ids` to `records`; how many bytes that were.
local function read(ids, records)
  local from, bytes = #records, 0
  local found = call('HMGET', task_key, unpack(ids, from + 1, math.min(#ids, from + READ)))
  for i = 1, #found do
    records[from + i] = found[i]
    if found[i] then bytes = bytes + #found[i] end
  end
  return bytes
end

local first = call('ZRANGE', delayed_key, '0', '0', 'WITHSCORES')
if first[2] and tonumber(first[2]) <= now then
  local due = call('ZRANGEBYSCORE', delayed_key, '-inf', format('%d', now), 'LIMIT', '0', '64')
  local records, entries, bytes = {}, {}, 0
  while #records < #due and bytes < BYTES_MAX do bytes = bytes + read(due, records) end
  call('ZREM', delayed_key, unpack(due, 1, #records))
  for i = 1, #records do
    if records[i] then
      local _, _, class = record_unpack(records[i])
      counts[class] = (counts[class] or 0) + 1
      entries[#entries + 1] = format('%d', virtual)
      entries[#entries + 1] = due[i]
    end
  end
  if #entries > 0 then call('ZADD', queue_key, unpack(entries)) end
  first = call('ZRANGE', delayed_key, '0', '0', 'WITHSCORES')
end
local next_due = first[2] and math.max(0, tonumber(first[2]) - now) or -1

local ids, tags, records, bytes, emptied = {}, {}, {}, 0, false
while #ids < most and bytes < BYTES_MAX do
  local asked = math.min(READ, most - #ids)
  local popped = call('ZPOPMIN', queue_key, format('%d', asked))
  for i = 1, #popped, 2 do ids[#ids + 1], tags[#tags + 1] = popped[i], popped[i + 1] end
  if #popped > 0 then bytes = bytes + read(ids, records) end
  emptied = #popped < 2 * asked
  if emptied then break end
end
if #ids == 0 then
  count_queued(scope_key, scope, counts, false)
  local waiting = emptied and 0 or call('ZCARD', queue_key)
  if waiting > 0 then wake(wake_key) end
  return { now, revocations, waiting, next_due }
end

local earlier = call('HMGET', run_key, unpack(ids))
local reply, leases, running = { now, revocations, 0, next_due }, {}, {}
local expires = format('%d', now + lease_ms)
-- Tokens follow the clock where it is ahead, so that they keep growing after a failover that lost the last ones.
token = math.max(token, now * 1000)
for i = 1, #ids do
  local record = records[i]
  if record then
    local deadline, attempts, class = record_unpack(record)
    local runs, spared, history = 0, 0, ''
    if earlier[i] then
      local at
      _, runs, spared, _, _, _, _, at = unpack_struct(RUN, earlier[i])
      history = string.sub(earlier[i], at)
    end
    token = token + 1
    local purpose = EXPIRE_PURPOSE
    if deadline == 0 or now < deadline then purpose, runs = RUN_PURPOSE, runs + 1 end
    leases[#leases + 1] = expires
    leases[#leases + 1] = ids[i]
    running[#running + 1] = ids[i]
    running[#running + 1] = pack(RUN, token, runs, spared, attempts, purpose, now, class) .. history
    counts[class] = (counts[class] or 0) - 1
    local at = #reply
    reply[at + 1], reply[at + 2], reply[at + 3] = ids[i], format('%d', token), runs
    reply[at + 4], reply[at + 5], reply[at + 6] = attempts + spared, purpose, record
  end
  virtual = math.max(virtual, tonumber(tags[i]))
end
if #leases > 0 then
  call('ZADD', lease_key, unpack(leases))
  call('HSET', run_key, unpack(running))
  call('PUBLISH', channel, table.concat(ids))
end
call('SETRANGE', scope_key, VIRTUAL_AT, pack('<dd', virtual, token))
reply[3] = emptied and 0 or call('ZCARD', queue_key)
count_queued(scope_key, scope, counts, reply[3] == 0)
if reply[3] > 0 then wake(wake_key) end
return reply
