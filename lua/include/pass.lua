--- Passes in flight: their places in pools, and what is kept of each.
-- A place is a member of its pool's sorted set, with the time at which it lapses. It counts until then and not a
-- moment longer, whether or not somebody has taken it away: who vanishes holds up nobody.
-- Record, in the `pass-record` hash: [started ms][probe epoch, 0 for no probe, JUDGED for one that its breaker was told
-- of][1 for a place in a pool of its class's own, else 0] and then the body, which only Rust reads.
local PASS = '<ddB'

--- Passes in flight in a pool.
local function places_taken(pool_key, now)
  return redis.call('ZCOUNT', pool_key, '(' .. string.format('%d', now), '+inf')
end

--- Mean duration of a pool's passes, ms; `otherwise` until one has been measured.
local function pool_service(packed, otherwise)
  return packed and struct.unpack('<d', packed) or otherwise
end

--- Time until a load of tasks and passes is less by `excess`, ms: it falls at the rate at which busy slots and passes
-- end their work.
local function drain_ms(excess, slots, service_ms, tasks, passes, service_key)
  if passes == 0 then return excess * service_ms / math.max(1, math.min(slots, tasks)) end
  local pass_service = pool_service(redis.call('GET', service_key), service_ms)
  return excess / (math.min(slots, tasks) / service_ms + passes / pass_service)
end

--- What `admit` is told of a pass at `at` among the heads: its lease ms, its class's own pool or nil, and where the
-- head goes on. `flight.pools` holds those read so far by number of key, `stored` what keys hold that are strings.
local function pass_terms(heads, at, flight, stored, before, service_default, now)
  local lease_ms, number, service_number, places
  lease_ms, number, service_number, places, at = struct.unpack('<dHHd', heads, at)
  local pool = flight.pools[number]
  if number > 0 and not pool then
    local key = KEYS[before + number]
    local service_ms = pool_service(stored[service_number], service_default)
    pool = { key = key, places = places, taken = places_taken(key, now), service_ms = service_ms }
    flight.pools[number] = pool
  end
  return lease_ms, pool, at
end

--- Why a pool has no place for a user type of this threshold, as a reason's code or 0; and how long until it has, ms:
-- places come free at the rate at which the passes in flight end.
local function pool_refusal(pool, threshold, hard)
  local taken, reason, excess = pool.taken, 0, 0
  local hard_bound, bound = math.floor(pool.places * hard), math.floor(pool.places * threshold)
  if taken >= hard_bound then reason, excess = 6, taken - math.max(0, hard_bound - 1) end
  if taken >= bound then
    if reason == 0 then reason = 7 end
    excess = math.max(excess, taken - math.max(0, bound - 1))
  end
  return reason, excess * pool.service_ms / math.max(1, taken)
end

--- Takes a place in a class's own pool, or in the one that counts as load of the scope; returns how many it took. What
-- is to be stored gathers in `flight`, as ZADD and HSET take it: of all in `pass` and `record`, by pool in `places`.
local function pass_take(flight, pool, pool_key, id, lease_ms, epoch, body, now)
  if lease_ms == 0 then return 0 end
  if pool then pool.taken, pool_key = pool.taken + 1, pool.key end
  local expires, places = string.format('%d', now + lease_ms), flight.places[pool_key]
  local pass, record = flight.pass, flight.record
  if not places then
    places = {}
    flight.places[pool_key] = places
  end
  places[#places + 1], places[#places + 2] = expires, id
  pass[#pass + 1], pass[#pass + 2] = expires, id
  record[#record + 1], record[#record + 2] = id, struct.pack(PASS, now, epoch, pool and 1 or 0) .. body
  return 1
end

--- Stores what was taken.
local function passes_store(flight, before)
  local call = redis.call
  if #flight.pass == 0 then return end
  call('ZADD', KEYS[before + flight.pass_key], unpack(flight.pass))
  call('HSET', KEYS[before + flight.record_key], unpack(flight.record))
  for pool_key, places in pairs(flight.places) do call('ZADD', pool_key, unpack(places)) end
end
