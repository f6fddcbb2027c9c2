--- Ends what somebody held of budgets: holds are described from `at` on in `head`, each [period B][estimate d]
-- [actual d, or -1 for the estimate], and the keys of their budgets are those from `key_at` on. What was held is free;
-- where `spends`, what was used of it is spent. `accounts` gathers those read so far, to be stored by the caller.
local function holds_end(accounts, head, at, key_at, holds, spends, now)
  for n = 0, holds - 1 do
    local period, estimate, actual
    period, estimate, actual, at = struct.unpack('<Bdd', head, at)
    local key = KEYS[key_at + n]
    local account = accounts[key]
    if not account then
      account = account_unpack(redis.call('GET', key), period, now)
      accounts[key] = account
    end
    account[3] = math.max(0, account[3] - estimate)
    if spends then account[2] = account[2] + (actual < 0 and estimate or actual) end
  end
end
