--- Sliding windows that never hold more than their limit. A session's two are packed into one string; a named limit's
-- one stands alone.
--
-- A window is a list of admissions, oldest first, each rounded *up* to a tick: it leaves the window at
-- `tick × width + window`, never early. Two encodings of the same list:
--   kind 1 (log)     one entry per unit; ticks of milliseconds: exact to the tick
--   kind 2, 3 (fold) one entry per tick with a count of 2 or 4 bytes; ticks of window/60: releases up to a tick late
-- Entries: [distance to the previous entry][count, kinds 2 and 3]. A distance is one byte, or 255 and two bytes.
-- The first entry has no distance: it stands at `oldest`.
-- Packed: [time until which the key lives, s (4)][number of windows (1)], a head for each window, then the entries of
-- each window. What follows those is left over from a time when there were more.
--
-- In memory: one flat array, eight places a window from `b`: kind, window ms, tick ms, newest tick, oldest tick, units
-- held, entries, limit. `b` is 0 for the first window, 8 for the second …
local HELD, LIMIT = 6, 8
local window_add, window_reset, window_wait, windows_unpack, windows_pack, windows_store

-- What nobody else needs to see: a script may have two hundred locals and no more.
do
  local KIND, WINDOW, TICK, NEWEST, OLDEST, ENTRIES = 1, 2, 3, 4, 5, 7

  local byte, char, sub, rep = string.byte, string.char, string.sub, string.rep
  local struct_pack, struct_unpack = struct.pack, struct.unpack
  local ceil, floor, larger = math.ceil, math.floor, math.max

  --- The distance at `at` and the position after it.
  local function distance_at(entries, at)
    local distance = byte(entries, at)
    if distance < 255 then return distance, at + 1 end
    local low, high = byte(entries, at + 1, at + 2)
    return low + high * 256, at + 3
  end

  --- The units of the entry at `at` and the position after them.
  local function units_at(kind, entries, at)
    if kind == 1 then return 1, at end
    if kind == 2 then
      local a, b = byte(entries, at, at + 1)
      return a + b * 256, at + 2
    end
    local a, b, c, d = byte(entries, at, at + 3)
    return a + b * 256 + c * 65536 + d * 16777216, at + 4
  end

  --- Drops what has left the window at `now`.
  local function window_slide(w, b, now)
    local tick, over = w[b + TICK], now - w[b + WINDOW]
    if w[b + HELD] == 0 or w[b + OLDEST] * tick > over then return end
    if w[b + NEWEST] * tick <= over then
      w[b + HELD], w[b + ENTRIES] = 0, ''
      return
    end
    local kind, entries, oldest, held, at = w[b + KIND], w[b + ENTRIES], w[b + OLDEST], w[b + HELD], 1
    local units, distance
    repeat
      units, at = units_at(kind, entries, at)
      distance, at = distance_at(entries, at)
      held, oldest = held - units, oldest + distance
    until oldest * tick > over
    w[b + OLDEST], w[b + HELD], w[b + ENTRIES] = oldest, held, sub(entries, at)
  end

  --- An entry's units, as they stand after its distance.
  local function units_of(kind, units)
    if kind == 1 then return units == 1 and '' or rep('\0', units - 1) end
    if kind == 2 then return char(units % 256, floor(units / 256)) end
    return struct_pack('<I4', units)
  end

  --- Takes up `units` at `at_ms`. A clock that went back counts as standing still.
  function window_add(w, b, at_ms, units)
    local kind, entries, newest, held = w[b + KIND], w[b + ENTRIES], w[b + NEWEST], w[b + HELD]
    local tick = ceil(at_ms / w[b + TICK])
    w[b + HELD] = held + units
    if held == 0 then
      w[b + NEWEST], w[b + OLDEST], w[b + ENTRIES] = tick, tick, units_of(kind, units)
      return
    end
    if tick < newest then tick = newest end
    local distance = tick - newest
    if distance == 0 and kind > 1 then
      local width = kind == 2 and 2 or 4
      local last = units_at(kind, entries, #entries - width + 1)
      w[b + ENTRIES] = sub(entries, 1, -width - 1) .. units_of(kind, last + units)
    elseif distance < 255 then
      w[b + ENTRIES] = entries .. char(distance) .. units_of(kind, units)
    else
      w[b + ENTRIES] = entries .. '\255' .. struct_pack('<H', distance) .. units_of(kind, units)
    end
    w[b + NEWEST] = tick
  end

  --- Time until the oldest of those held has left, ms; 0 for an empty window.
  function window_reset(w, b, now)
    if w[b + HELD] == 0 then return 0 end
    return larger(0, w[b + OLDEST] * w[b + TICK] + w[b + WINDOW] - now)
  end

  --- Time until `units` of those held have left, ms. All of them, if there are fewer.
  function window_wait(w, b, now, units)
    if w[b + HELD] == 0 then return 0 end
    local kind, entries, tick, at = w[b + KIND], w[b + ENTRIES], w[b + OLDEST], 1
    local freed, distance
    freed, at = units_at(kind, entries, at)
    while freed < units and at <= #entries do
      distance, at = distance_at(entries, at)
      tick = tick + distance
      local more
      more, at = units_at(kind, entries, at)
      freed = freed + more
    end
    return larger(0, tick * w[b + TICK] + w[b + WINDOW] - now)
  end

  --- Takes over what another shape of the window held: of what is still inside, the newest units up to the limit, which
  -- are all that can matter.
  local function window_carry(w, b, now, kind, tick, from, entries)
    local over, ticks, counts, inside, at = now - w[b + WINDOW], {}, {}, 0, 1
    while true do
      local units
      units, at = units_at(kind, entries, at)
      if from * tick > over then
        -- A coarse tick may lie ahead; what stands at it came no later than now.
        ticks[#ticks + 1], counts[#counts + 1], inside = math.min(from * tick, now + 1), units, inside + units
      end
      if at > #entries then break end
      local distance
      distance, at = distance_at(entries, at)
      from = from + distance
    end
    local surplus = inside - w[b + LIMIT]
    for i = 1, #ticks do
      local units = counts[i]
      if surplus > 0 then
        local dropped = math.min(surplus, units)
        units, surplus = units - dropped, surplus - dropped
      end
      if units > 0 then window_add(w, b, ticks[i], units) end
    end
  end

  --- The windows packed in `packed` (or none), in the shapes the policy wants: kind, window, tick and limit, flat.
  -- Where the policy has changed a window's shape, what was held is carried over, entry by entry.
  function windows_unpack(packed, shapes, now)
    local number = packed and byte(packed, 5) or 0
    -- As they nearly always are: of the shapes the policy still wants, and one or two of them.
    if number == 2 and #shapes == 8 then
      local k, window, tick, newest, back, held, size, k2, window2, tick2, newest2, back2, held2, size2 =
        struct_unpack('<BI4I4dI4I4HBI4I4dI4I4H', packed, 6)
      if k == shapes[1] and window == shapes[2] and tick == shapes[3]
        and k2 == shapes[5] and window2 == shapes[6] and tick2 == shapes[7] then
        local w = { k, window, tick, newest, newest - back, held, sub(packed, 60, 59 + size), shapes[4],
          k2, window2, tick2, newest2, newest2 - back2, held2, sub(packed, 60 + size, 59 + size + size2), shapes[8] }
        window_slide(w, 0, now)
        window_slide(w, 8, now)
        return w
      end
    elseif number == 1 and #shapes == 4 then
      local k, window, tick, newest, back, held, size = struct_unpack('<BI4I4dI4I4H', packed, 6)
      if k == shapes[1] and window == shapes[2] and tick == shapes[3] then
        local w = { k, window, tick, newest, newest - back, held, sub(packed, 33, 32 + size), shapes[4] }
        window_slide(w, 0, now)
        return w
      end
    end
    -- A table made at its full size is not grown place by place.
    local w = #shapes == 8 and { 0, 0, 0, 0, 0, 0, '', 0, 0, 0, 0, 0, 0, 0, '', 0 }
      or #shapes == 4 and { 0, 0, 0, 0, 0, 0, '', 0 } or {}
    local head_at, entries_at = 6, 6 + 27 * number
    local heads_end = entries_at
    for s = 0, #shapes - 4, 4 do
      local b = s * 2
      local kind, window, tick, newest, back, held, size
      if head_at + 27 <= heads_end then
        kind, window, tick, newest, back, held, size, head_at = struct_unpack('<BI4I4dI4I4H', packed, head_at)
      end
      local entries = size and sub(packed, entries_at, entries_at + size - 1)
      entries_at = entries_at + (size or 0)
      if kind == shapes[s + 1] and window == shapes[s + 2] and tick == shapes[s + 3] then
        w[b + KIND], w[b + WINDOW], w[b + TICK], w[b + NEWEST] = kind, window, tick, newest
        w[b + OLDEST], w[b + HELD], w[b + ENTRIES], w[b + LIMIT] = newest - back, held, entries, shapes[s + 4]
      else
        w[b + KIND], w[b + WINDOW], w[b + TICK], w[b + NEWEST] = shapes[s + 1], shapes[s + 2], shapes[s + 3], 0
        w[b + OLDEST], w[b + HELD], w[b + ENTRIES], w[b + LIMIT] = 0, 0, '', shapes[s + 4]
        if kind and held > 0 then window_carry(w, b, now, kind, tick, newest - back, entries) end
      end
      window_slide(w, b, now)
    end
    return w
  end

  --- The windows as one string.
  function windows_pack(w, lives_until_s)
    if #w == 16 then
      return struct_pack('<I4BBI4I4dI4I4HBI4I4dI4I4H', lives_until_s, 2, w[1], w[2], w[3], w[4], w[4] - w[5], w[6],
        #w[7], w[9], w[10], w[11], w[12], w[12] - w[13], w[14], #w[15]) .. w[7] .. w[15]
    end
    if #w == 8 then
      return struct_pack('<I4BBI4I4dI4I4H', lives_until_s, 1, w[1], w[2], w[3], w[4], w[4] - w[5], w[6], #w[7]) .. w[7]
    end
    local parts, entries = { struct_pack('<I4B', lives_until_s, #w / 8) }, {}
    for b = 0, #w - 8, 8 do
      local newest, of_window = w[b + NEWEST], w[b + ENTRIES]
      parts[#parts + 1] = struct_pack('<BI4I4dI4I4H', w[b + KIND], w[b + WINDOW], w[b + TICK], newest,
        newest - w[b + OLDEST], w[b + HELD], #of_window)
      entries[#entries + 1] = of_window
    end
    return table.concat(parts) .. table.concat(entries)
  end

  --- Stores windows whose key must live `lasts_ms` from now on; `before` is what it holds. It is given a quarter more,
  -- so that most writes leave its time as it is and only write over its bytes, which costs half of a SET with a time.
  function windows_store(key, before, w, lasts_ms, now)
    local lives_until_s = before and struct_unpack('<I4', before) or 0
    if lives_until_s * 1000 >= now + lasts_ms then
      redis.call('SETRANGE', key, '0', windows_pack(w, lives_until_s))
      return
    end
    local px = ceil(lasts_ms * 1.25)
    -- A second less than it has: the server counts from the beginning of the script, which was before `now`.
    redis.call('SET', key, windows_pack(w, floor((now + px) / 1000) - 1), 'PX', string.format('%d', px))
  end
end
