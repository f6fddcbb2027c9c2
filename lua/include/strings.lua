--- What the keys from this one on hold, as far as they are strings: read at once, a thousand at a time.
local function read_strings(first)
  local stored = redis.call('MGET', unpack(KEYS, first, math.min(#KEYS, first + 999)))
  for next_first = first + 1000, #KEYS, 1000 do
    local more = redis.call('MGET', unpack(KEYS, next_first, math.min(#KEYS, next_first + 999)))
    for n = 1, #more do stored[#stored + 1] = more[n] end
  end
  return stored
end
