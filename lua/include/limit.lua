--- Named limits: each has one window.
local limit_shapes, limit_lasts = {}, {}

--- The shape of the window of the policy's named limit of this number. After `limit_lasts` of it, ms, that is
-- empty.
local function limit_shape(packed, number)
  local shape = limit_shapes[number]
  if not shape then
    local kind, window, tick, limit = struct.unpack('<BI4I4d', packed, 17 * number - 16)
    shape = { kind, window, tick, limit }
    limit_shapes[number], limit_lasts[number] = shape, window + 2 * tick
  end
  return shape
end
