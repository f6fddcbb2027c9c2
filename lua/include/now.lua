--- Time, in ms since the epoch, from this server's clock; from the argument in tests only.
-- Returns it rounded down and rounded up: a decision that something is over uses the first, a record that something
-- happened uses the second, so that a fraction of a millisecond is never given away.
local function now_ms(injected)
  if injected ~= '' then
    local now = tonumber(injected)
    return now, now
  end
  local time = redis.call('TIME')
  local floor = time[1] * 1000 + math.floor(time[2] / 1000)
  if time[2] % 1000 == 0 then return floor, floor end
  return floor, floor + 1
end
