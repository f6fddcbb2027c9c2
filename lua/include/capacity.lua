--- Capacity from live heartbeats, read without writing: the sums that `heartbeat` keeps, less what has lapsed since.
-- A heartbeat: [accepting 1 or 0][slots][time][policy stamp held][since ms] and then what else the processor says,
-- which only Rust reads.
local HEARTBEAT = '<BI4ddd'

local function live_slots(beat_key, processor_key, slots, processors, now)
  local lapsed = redis.call('ZRANGEBYSCORE', beat_key, '-inf', string.format('%d', now), 'LIMIT', '0', '512')
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
