--- Revocations: what credentials die with, and until when. ZSET `revoked`: member → expiry ms; HASH `revocation`:
-- member → [revoked ms][not before ms, 0: none][length B][user type of a ceiling] and then what only Rust reads; ZSET
-- `revoked-order`: member → number of the change that made it what it is; HASH `revocation-head`: the number that grows
-- with every change, the epoch of the data, the last acknowledged loss, and the loss that nobody has acknowledged.
-- The number stands in the scope as well, where `admit` and `claim` read it.
local REVOKED = '<ddBc0'
-- Below the count there is room for twenty bits of a digest: two changes that were given the same count on two sides
-- of a failover have different numbers.
local NUMBER_UNIT = 1048576

--- What is stored: number, that of head or scope which counts further, epoch ('' for none), acknowledgement, loss, and
-- whether head and scope disagree.
local function revocations_read(scope_key, head_key)
  local head = redis.call('HMGET', head_key, 'number', 'epoch', 'acknowledged', 'lost')
  local packed, number = redis.call('GETRANGE', scope_key, REVOCATIONS_AT, '63'), 0
  if #packed == 8 then number = struct.unpack('<d', packed) end
  local kept = tonumber(head[1] or '0')
  return math.max(number, kept), head[2] or '', head[3] or '', head[4] or '', number ~= kept
end

--- The error for whoever knows of other revocations than are stored; nil for who knows of the same.
local function revocations_stale(scope_key, head_key, known)
  local number = revocations_read(scope_key, head_key)
  if number ~= tonumber(known) then return redis.error_reply('STALEREVOCATIONS ' .. string.format('%d', number)) end
end

--- Stores a number, in both places.
local function revocations_store(scope_key, head_key, number)
  redis.call('HSET', head_key, 'number', string.format('%d', number))
  redis.call('SETRANGE', scope_key, REVOCATIONS_AT, struct.pack('<d', number))
end

--- The number after `number`, of a change of which `what` tells.
local function revocations_next(number, what)
  local digest = tonumber(string.sub(redis.sha1hex(string.format('%d', number) .. what), 1, 5), 16)
  return (math.floor(number / NUMBER_UNIT) + 1) * NUMBER_UNIT + digest
end

--- A change has been made, of which `what` tells: the number after `number` is stored and told to whoever listens.
local function revocations_advance(scope_key, head_key, number, what, channel)
  number = revocations_next(number, what)
  revocations_store(scope_key, head_key, number)
  redis.call('PUBLISH', channel, 'revoked ' .. string.format('%d', number))
  return number
end
