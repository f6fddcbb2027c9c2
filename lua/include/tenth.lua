--- The window of a closed breaker, in tenths; read once and written once a batch.

--- Reads the window into `breaker.tenths`, a list of {start ms, attempts, failures, slow}, and into the sums of it,
-- `calls`, `failures` and `slows`. Where the policy has changed the window's length, what is inside the new one still
-- counts, in tenths of the new one.
local function tenths_unpack(breaker, now, window_ms)
  local width = window_ms / 10
  local current = math.floor(now / width) * width
  local tenths, packed, at, last = {}, breaker[6], 1, nil
  local calls, failures, slows = 0, 0, 0
  while at <= #packed do
    local start, c, f, s
    start, c, f, s, at = struct.unpack(TENTH, packed, at)
    start = math.floor(start / width) * width
    if start > current - window_ms then
      if last and last[1] == start then
        last[2], last[3], last[4] = last[2] + c, last[3] + f, last[4] + s
      else
        last = { start, c, f, s }
        tenths[#tenths + 1] = last
      end
      calls, failures, slows = calls + c, failures + f, slows + s
    end
  end
  -- A clock that went back counts as standing still.
  if not last or last[1] < current then tenths[#tenths + 1] = { current, 0, 0, 0 } end
  breaker.tenths, breaker.calls, breaker.failures, breaker.slows = tenths, calls, failures, slows
end

--- Counts an attempt.
local function tenths_count(breaker, failed, slow)
  local last = breaker.tenths[#breaker.tenths]
  last[2], breaker.calls = last[2] + 1, breaker.calls + 1
  if failed then last[3], breaker.failures = last[3] + 1, breaker.failures + 1 end
  if slow then last[4], breaker.slows = last[4] + 1, breaker.slows + 1 end
end

--- Writes the window back into the breaker.
local function tenths_pack(breaker)
  local parts = {}
  for n, tenth in ipairs(breaker.tenths) do parts[n] = struct.pack(TENTH, unpack(tenth)) end
  breaker[6] = table.concat(parts)
end
