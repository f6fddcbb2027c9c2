--- How breakers learn: from what became of what they let through, and from nothing else.
local WINDOW_MS, OPEN_MS, SLOW_MS, MINIMUM, PROBES, FAILURE_RATE, SLOW_RATE = 1, 2, 3, 4, 5, 6, 7
-- In place of a probe's epoch, once its breaker has been told of it.
local JUDGED = -1
local all_rules = {}

--- The rules of this number, from 1, of those packed one after another, 56 bytes each: window ms, open ms, slow ms,
-- minimum calls, half-open probes, failure rate, slow call rate.
local function breaker_rules(packed, number)
  local rules = all_rules[number]
  if not rules then
    rules = { struct.unpack('<ddddddd', packed, 56 * number - 55) }
    all_rules[number] = rules
  end
  return rules
end

--- Counts a result in the breaker of `key`: probes decide a half-open breaker, all else the window of a closed one. A
-- result that says nothing (`failed` is nil) gives a probe back. `breakers` holds those read so far.
local function breaker_feed(breakers, key, kind, rules, failed, slow, epoch, now)
  if epoch == JUDGED then return end
  local breaker = breakers[key]
  if not breaker then
    local packed = redis.call('GET', key)
    breaker = breaker_unpack(packed, now)
    breaker.kind, breaker.new, breaker.window_ms = kind, not packed, rules[WINDOW_MS]
    breakers[key] = breaker
  end
  if breaker[1] == HALF_OPEN then
    if epoch ~= breaker[3] or epoch == 0 then return end
    breaker.changed = true
    breaker[4] = math.max(0, breaker[4] - 1)
    if failed == nil then return end
    if failed or slow then
      breaker[1], breaker[2], breaker[4], breaker[5] = OPEN, now + rules[OPEN_MS], 0, 0
      return
    end
    breaker[5] = breaker[5] + 1
    if breaker[5] >= rules[PROBES] then breaker[1], breaker[4], breaker[5], breaker[6] = CLOSED, 0, 0, '' end
  elseif breaker[1] == CLOSED and failed ~= nil then
    breaker.changed = true
    if not breaker.tenths then tenths_unpack(breaker, now, rules[WINDOW_MS]) end
    tenths_count(breaker, failed, slow)
    local calls = breaker.calls
    if calls >= rules[MINIMUM]
      and (breaker.failures >= calls * rules[FAILURE_RATE] or breaker.slows >= calls * rules[SLOW_RATE]) then
      breaker[1], breaker[2], breaker[6], breaker.tenths = OPEN, now + rules[OPEN_MS], '', nil
    end
  end
end

--- Stores the breakers that have changed; those that are new are listed by kind.
local function breakers_store(breakers, kind_key, now)
  for key, breaker in pairs(breakers) do
    if breaker.changed then
      if breaker.tenths then tenths_pack(breaker) end
      local lasts = breaker[1] == CLOSED and breaker.window_ms * 2 or 86400000
      redis.call('SET', key, breaker_pack(breaker), 'PX', string.format('%d', lasts))
      if breaker.new then
        redis.call('ZADD', kind_key, string.format('%d', now), breaker.kind)
        redis.call('ZREMRANGEBYRANK', kind_key, '0', '-257')
      end
    end
  end
end
