--[[
Counts a write of a subject, if all its windows have room for it: administration and minting are limited apart from
admission, and before anything is looked at that they would change.

Guarantees
  - N callers, any interleaving: never one write more than a window holds.
  - A write that is refused counts in no window.

KEYS  1 write-limit STRING
ARGV  1 now ms (tests only, else '')  2 ms after which the windows are empty
      3 packed [windows B] and for each [kind B][window ms I4][tick ms I4][limit d]
Returns  {1, 0} counted, or {0, ms until there is room; 0 if there never is}
]]
local now, now_ceil = now_ms(ARGV[1])
local number, at = struct.unpack('<B', ARGV[3])
local shapes = {}
for s = 1, 4 * number, 4 do
  shapes[s], shapes[s + 1], shapes[s + 2], shapes[s + 3], at = struct.unpack('<BI4I4d', ARGV[3], at)
end
local packed = redis.call('GET', KEYS[1])
local windows = windows_unpack(packed, shapes, now)
local retry_ms, full, hopeless = 0, false, false
for b = 0, #windows - 8, 8 do
  local excess = windows[b + HELD] + 1 - windows[b + LIMIT]
  if excess > 0 then
    full, hopeless = true, hopeless or windows[b + LIMIT] < 1
    retry_ms = math.max(retry_ms, window_wait(windows, b, now, excess))
  end
end
if full then return { 0, hopeless and 0 or math.ceil(retry_ms) } end
for b = 0, #windows - 8, 8 do window_add(windows, b, now_ceil, 1) end
windows_store(KEYS[1], packed, windows, tonumber(ARGV[2]), now)
return { 1, 0 }
