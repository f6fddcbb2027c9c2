--- What may be used once, such as a proof of possession: a key that is there says that it was.

--- Uses what is told of at `at` among the heads: 0, or the code of its having been used, by this batch or before; and
-- where the head goes on. `stored` is what keys hold by their number; what is to be stored gathers in `used`, and
-- without it nothing is used.
local function once_use(heads, at, stored, used)
  local key, lasts_ms
  key, lasts_ms, at = struct.unpack('<HI4', heads, at)
  if stored[key] then return 12, at end
  if used then
    stored[key] = ''
    used[#used + 1], used[#used + 2] = key, string.format('%d', lasts_ms)
  end
  return 0, at
end

--- Stores what was used.
local function once_store(used, before)
  for n = 1, #used, 2 do redis.call('SET', KEYS[before + used[n]], '', 'PX', used[n + 1]) end
end
