--- What `admit` says of a request's limits and budgets after deciding.

--- Packed [wait ms d], then for each window and each named limit [held d][reset ms d], for each budget [spent d]
-- [held d][reset ms d]. `uses` holds three places for each named limit, its window first; `bills` two for each budget,
-- its account first.
local function state_pack(wait_ms, windows, uses, bills, now)
  local pack, places, state = struct.pack, #windows, nil
  if places == 16 then
    state = pack('<ddddd', wait_ms, windows[HELD], window_reset(windows, 0, now), windows[8 + HELD],
      window_reset(windows, 8, now))
  elseif places == 8 then
    state = pack('<ddd', wait_ms, windows[HELD], window_reset(windows, 0, now))
  else
    state = pack('<d', wait_ms)
    for b = 0, places - 8, 8 do state = state .. pack('<dd', windows[b + HELD], window_reset(windows, b, now)) end
  end
  if uses then
    for u = 1, #uses, 3 do
      local window = uses[u]
      state = state .. pack('<dd', window[HELD], window_reset(window, 0, now))
    end
  end
  if bills then
    for n = 1, #bills, 2 do
      local account = bills[n]
      state = state .. pack('<ddd', account[2], account[3], account[1] - now)
    end
  end
  return state
end
