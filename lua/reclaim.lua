--[[
Takes back lapsed leases. A task with attempts left goes to the front of the queue; one without, or one that was
cancelled, is leased to the caller to be ended by `settle`, which knows the keys of what it holds.

Guarantees
  - The lapsed holder's token is void from here on.
  - At most 64 leases a call, so a mass failure never blocks the server.
  - A call reads and hands out at most 1 MiB of records and the eight it then reads last, but at least one.

KEYS  1 scope STRING  2 queue ZSET  3 lease ZSET  4 run HASH  5 task HASH  6 wake LIST  7 cancelled SET
ARGV  1 now ms (tests only, else '')  2 lease ms  3 channel of changes
Returns  {now, requeued, then for each lease to be ended: task id, token, run number, attempts allowed, purpose, record}
]]
local scope_key, queue_key, lease_key, run_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local task_key, wake_key, cancelled_key = KEYS[5], KEYS[6], KEYS[7]
local call, pack, unpack_struct, format = redis.call, struct.pack, struct.unpack, string.format
local now = now_ms(ARGV[1])
local lapsed = call('ZRANGEBYSCORE', lease_key, '-inf', format('%d', now), 'LIMIT', '0', '64')
if #lapsed == 0 then return { now, 0 } end

-- Records are read a few at a time: all at once, the largest payloads would hold up the server and fill one answer.
-- Whatever is left has lapsed all the same, and is taken back by the next call.
local READ, BYTES_MAX = 8, 1048576
local records, taken, bytes = {}, 0, 0
while taken < #lapsed and bytes < BYTES_MAX do
  local found = call('HMGET', task_key, unpack(lapsed, taken + 1, math.min(#lapsed, taken + READ)))
  for i = 1, #found do
    records[taken + i] = found[i]
    if found[i] then bytes = bytes + #found[i] end
  end
  taken = taken + #found
end

local expires = format('%d', now + tonumber(ARGV[2]))
local runs = call('HMGET', run_key, unpack(lapsed, 1, taken))
local cancelled = call('SMISMEMBER', cancelled_key, unpack(lapsed, 1, taken))
local scope = scope_whole(call('GET', scope_key))
local _, virtual, token = unpack_struct(SCOPE, scope)
token = math.max(token, now * 1000)
local reply, requeued, leases, rerun, orphans, returning = { now, 0 }, {}, {}, {}, {}, {}
for i = 1, taken do
  local id = lapsed[i]
  if not (runs[i] and records[i]) then
    orphans[#orphans + 1] = id
  else
    local _, count, spared, attempts, purpose, started, class, at = unpack_struct(RUN, runs[i])
    local history = string.sub(runs[i], at)
    if purpose == RUN_PURPOSE then
      history = history .. pack('<dd', started, now)
      if cancelled[i] == 1 then
        purpose = CANCEL_PURPOSE
      elseif count - spared >= attempts then
        purpose = BURY_PURPOSE
      end
    end
    rerun[#rerun + 1] = id
    if purpose == RUN_PURPOSE then
      rerun[#rerun + 1] = pack(RUN, 0, count, spared, attempts, RUN_PURPOSE, 0, class) .. history
      requeued[#requeued + 1] = ORDER_FIRST
      requeued[#requeued + 1] = id
      orphans[#orphans + 1] = id
      returning[class] = (returning[class] or 0) + 1
    else
      token = token + 1
      rerun[#rerun + 1] = pack(RUN, token, count, spared, attempts, purpose, now, class) .. history
      leases[#leases + 1] = expires
      leases[#leases + 1] = id
      local n = #reply
      reply[n + 1], reply[n + 2], reply[n + 3] = id, format('%d', token), count
      reply[n + 4], reply[n + 5], reply[n + 6] = attempts + spared, purpose, records[i]
    end
  end
end
if #orphans > 0 then call('ZREM', lease_key, unpack(orphans)) end
if #rerun > 0 then call('HSET', run_key, unpack(rerun)) end
if #leases > 0 then
  call('ZADD', lease_key, unpack(leases))
  call('SETRANGE', scope_key, VIRTUAL_AT, pack('<dd', virtual, token))
end
if #requeued > 0 then
  call('ZADD', queue_key, unpack(requeued))
  count_queued(scope_key, scope, returning, false)
  wake(wake_key)
end
reply[2] = #requeued / 2
call('PUBLISH', ARGV[3], table.concat(lapsed, '', 1, taken))
return reply
