--- Changing the set of what is revoked. Each change has a number, and each member that of the change that made it what
-- it is: whoever knows the set of a number reads only what has come since.

--- Members that have not expired.
local function revoked_alive(revoked_key, now)
  return redis.call('ZCOUNT', revoked_key, '(' .. string.format('%d', now), '+inf')
end

--- When a member expires or did, and of one that has not: after when what is issued is spared (0: nothing is), and the
-- user type of a ceiling ('': it is none, or none any more).
local function revoked_kept(keys, now, member)
  local expiry = tonumber(redis.call('ZSCORE', keys.revoked, member) or '0')
  local kept = expiry > now and redis.call('HGET', keys.revocation, member)
  if not kept then return expiry end
  local _, not_before, ceiling = struct.unpack(REVOKED, kept)
  return expiry, not_before, ceiling
end

--- What is kept of a member that is revoked now; `rest` is what only Rust reads.
local function revoked_packed(now_ceil, not_before, ceiling, rest)
  return struct.pack('<ddB', now_ceil, not_before, #ceiling) .. ceiling .. rest
end

--- What a change that stores these tells of itself, for its number.
local function revoked_what(fresh, entries) return table.concat(fresh, ' ') .. table.concat(entries) end

--- Stores members: `fresh` is expiry and member in turn, `entries` member and what is kept of it. What has expired goes
-- with the change, some of it: it kills nothing, and whoever holds it knows when it ends. Returns the new number.
local function revoked_store(keys, now, number, fresh, entries, channel)
  local call, format = redis.call, string.format
  local expired = call('ZRANGEBYSCORE', keys.revoked, '-inf', format('%d', now), 'LIMIT', '0', '512')
  if #expired > 0 then
    call('ZREM', keys.revoked, unpack(expired))
    call('HDEL', keys.revocation, unpack(expired))
    call('ZREM', keys.order, unpack(expired))
  end
  call('ZADD', keys.revoked, unpack(fresh))
  call('HSET', keys.revocation, unpack(entries))
  number = revocations_advance(keys.scope, keys.head, number, revoked_what(fresh, entries), channel)
  local order = {}
  for i = 2, #fresh, 2 do order[i - 1], order[i] = format('%d', number), fresh[i] end
  call('ZADD', keys.order, unpack(order))
  return number
end
