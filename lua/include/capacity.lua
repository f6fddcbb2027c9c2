--- Capacity from live heartbeats, read without writing.
-- `slots` and `processors` are the sums that `heartbeat` keeps; `until_ms` is when the first of them lapses. From then
-- on those that have lapsed are taken off here, until the next heartbeat has swept them out.
local HEARTBEAT = '<BI4d'

local function live_slots(beat_key, processor_key, slots, processors, until_ms, now)
  if now < until_ms then return slots, processors end
  local lapsed = redis.call('ZRANGEBYSCORE', beat_key, '-inf', string.format('%.0f', now), 'LIMIT', '0', '512')
  if #lapsed == 0 then return slots, processors end
  local beats = redis.call('HMGET', processor_key, unpack(lapsed))
  for i = 1, #beats do
    if beats[i] then
      local accepting, count = struct.unpack(HEARTBEAT, beats[i])
      slots, processors = slots - count * accepting, processors - accepting
    end
  end
  return math.max(0, slots), math.max(0, processors)
end
