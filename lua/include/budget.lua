--- A budget's account, packed into one string: {period end ms, spent, held}.
-- Holds outlive the period, spending does not.
local ACCOUNT = '<ddd'

--- End of the calendar period (UTC) that holds `now`. Periods: 1 minute, 2 hour, 3 day, 4 week from Monday, 5 month.
local function period_end(period, now)
  if period == 1 then return (math.floor(now / 60000) + 1) * 60000 end
  if period == 2 then return (math.floor(now / 3600000) + 1) * 3600000 end
  local day = math.floor(now / 86400000)
  if period == 3 then return (day + 1) * 86400000 end
  -- 1970-01-01 was a Thursday.
  if period == 4 then return (day + 7 - (day + 3) % 7) * 86400000 end
  -- Civil date of a day number in years that start in March, so that the leap day comes last.
  local shifted = day + 719468
  local era = math.floor(shifted / 146097)
  local of_era = shifted - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  -- The next month's first day, again as a day number; after February (11) the shifted year begins anew.
  local next_month, next_year = month + 1, year + era * 400
  if next_month == 12 then next_month, next_year = 0, next_year + 1 end
  local next_era = math.floor(next_year / 400)
  local in_era = next_year - next_era * 400
  local first = math.floor((153 * next_month + 2) / 5)
  return (next_era * 146097 + in_era * 365 + math.floor(in_era / 4) - math.floor(in_era / 100) + first - 719468)
    * 86400000
end

--- {period end, spent, held} at `now`.
local function account_unpack(packed, period, now)
  if not packed then return { period_end(period, now), 0, 0 } end
  local ends, spent, held = struct.unpack(ACCOUNT, packed)
  if now >= ends then return { period_end(period, now), 0, held } end
  return { ends, spent, held }
end

--- Stores an account. One that still holds something must outlive every task that could release it.
local account_lasts, account_px
local function account_store(key, account, now)
  local lasts = account[1] - now
  if account[3] > 0 then lasts = lasts + 2678400000 end
  -- The accounts of a batch mostly share a period, and turning a number into text is slow.
  if lasts ~= account_lasts then account_lasts, account_px = lasts, string.format('%d', lasts) end
  redis.call('SET', key, struct.pack(ACCOUNT, account[1], account[2], account[3]), 'PX', account_px)
end
