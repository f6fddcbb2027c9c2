--- Sliding windows that never hold more than their limit, all windows of one subject packed into one string.
--
-- A window is a list of admissions, oldest first, each rounded *up* to a tick: it leaves the window at
-- `tick × width + window`, never early. Two encodings of the same list:
--   kind 1 (log)     one entry per unit; ticks of milliseconds: exact to the tick
--   kind 2, 3 (fold) one entry per tick with a count of 2 or 4 bytes; ticks of window/60: releases up to a tick late
-- Entries: [distance to the previous entry][count, kinds 2 and 3]. A distance is one byte, or 255 and two bytes.
-- The first entry has no distance: it stands at `oldest`.
--
-- A window in memory: {kind, window ms, tick ms, newest tick, oldest tick, units held, entries, limit}. Positions:
local KIND, WINDOW, TICK, NEWEST, OLDEST, HELD, ENTRIES, LIMIT = 1, 2, 3, 4, 5, 6, 7, 8
local WINDOW_HEAD = '<BI4I4dI4I4H'

--- The distance at `at` and the position after it.
local function distance_at(entries, at)
  local distance = string.byte(entries, at)
  if distance < 255 then return distance, at + 1 end
  local low, high = string.byte(entries, at + 1, at + 2)
  return low + high * 256, at + 3
end

--- The units of the entry at `at` and the position after them.
local function units_at(kind, entries, at)
  if kind == 1 then return 1, at end
  if kind == 2 then
    local a, b = string.byte(entries, at, at + 1)
    return a + b * 256, at + 2
  end
  local a, b, c, d = string.byte(entries, at, at + 3)
  return a + b * 256 + c * 65536 + d * 16777216, at + 4
end

--- Drops what has left the window at `now`.
local function window_slide(w, now)
  if w[HELD] == 0 then return end
  local tick, span = w[TICK], w[WINDOW]
  local over = now - span
  if w[OLDEST] * tick > over then return end
  if w[NEWEST] * tick <= over then
    w[HELD], w[ENTRIES] = 0, ''
    return
  end
  local kind, entries, oldest, held, at = w[KIND], w[ENTRIES], w[OLDEST], w[HELD], 1
  local units, distance
  repeat
    units, at = units_at(kind, entries, at)
    distance, at = distance_at(entries, at)
    held, oldest = held - units, oldest + distance
  until oldest * tick > over
  w[OLDEST], w[HELD], w[ENTRIES] = oldest, held, string.sub(entries, at)
end

--- Takes up `units` at `at_ms`. A clock that went back counts as standing still.
local function window_add(w, at_ms, units)
  local kind, entries = w[KIND], w[ENTRIES]
  local tick = math.ceil(at_ms / w[TICK])
  local count = kind == 1 and string.rep('\0', units - 1) or struct.pack(kind == 2 and '<H' or '<I4', units)
  if w[HELD] == 0 then
    w[NEWEST], w[OLDEST], w[ENTRIES] = tick, tick, count
  else
    if tick < w[NEWEST] then tick = w[NEWEST] end
    local distance = tick - w[NEWEST]
    if distance == 0 and kind > 1 then
      local width = kind == 2 and 2 or 4
      local last = units_at(kind, entries, #entries - width + 1)
      w[ENTRIES] = string.sub(entries, 1, -width - 1) .. struct.pack(kind == 2 and '<H' or '<I4', last + units)
    elseif distance < 255 then
      w[ENTRIES] = entries .. string.char(distance) .. count
    else
      w[ENTRIES] = entries .. '\255' .. struct.pack('<H', distance) .. count
    end
    w[NEWEST] = tick
  end
  w[HELD] = w[HELD] + units
end

--- Time until `units` of those held have left, ms. All of them, if there are fewer.
local function window_wait(w, now, units)
  if w[HELD] == 0 then return 0 end
  local kind, entries, tick, at = w[KIND], w[ENTRIES], w[OLDEST], 1
  local freed, distance
  freed, at = units_at(kind, entries, at)
  while freed < units and at <= #entries do
    distance, at = distance_at(entries, at)
    tick = tick + distance
    local more
    more, at = units_at(kind, entries, at)
    freed = freed + more
  end
  return math.max(0, tick * w[TICK] + w[WINDOW] - now)
end

--- The windows packed in `packed` (or none), as the policy `shapes` wants them: {kind, window, tick, limit} each.
-- Where the policy has changed a window's shape, what was held is carried over, entry by entry.
local function windows_unpack(packed, shapes, now)
  local windows, at = {}, 1
  for i = 1, #shapes do
    local shape = shapes[i]
    local kind, window, tick, newest, back, held, size, entries
    if packed and at < #packed then
      kind, window, tick, newest, back, held, size, at = struct.unpack(WINDOW_HEAD, packed, at)
      entries, at = string.sub(packed, at, at + size - 1), at + size
    end
    if kind == shape[KIND] and window == shape[WINDOW] and tick == shape[TICK] then
      windows[i] = { kind, window, tick, newest, newest - back, held, entries, shape[4] }
      window_slide(windows[i], now)
    else
      local w = { shape[KIND], shape[WINDOW], shape[TICK], 0, 0, 0, '', shape[4] }
      windows[i] = w
      if kind and held > 0 then
        local from, position, units, distance = newest - back, 1, nil, nil
        while true do
          units, position = units_at(kind, entries, position)
          window_add(w, from * tick, units)
          if position > #entries then break end
          distance, position = distance_at(entries, position)
          from = from + distance
        end
        window_slide(w, now)
      end
    end
  end
  return windows
end

--- The windows as one string, and the time after which it says nothing any more, ms from `now`.
local function windows_pack(windows, now)
  local packed, lasts = {}, 1
  for i = 1, #windows do
    local w = windows[i]
    packed[i] = struct.pack(WINDOW_HEAD, w[KIND], w[WINDOW], w[TICK], w[NEWEST], w[NEWEST] - w[OLDEST], w[HELD],
      #w[ENTRIES]) .. w[ENTRIES]
    local ends = w[NEWEST] * w[TICK] + w[WINDOW] - now
    if ends > lasts then lasts = ends end
  end
  return table.concat(packed), lasts
end
