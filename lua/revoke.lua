--[[
Revokes: what these members name is dead from here on. Lowers and raises the ceilings of principals, too.

Guarantees
  - From the moment it returns, `admit` decides for nobody who has not read these members, and `claim` says so.
  - Once is as good as twice: a member that is there stays as it is, unless it would now kill more.
  - Members, number, audit event and message at once, or nothing. The sessions it ends are gone with it.
  - No more than `most` members that have not expired; beyond, nothing is revoked and the caller is told.

KEYS
  1 scope STRING  2 revoked ZSET  3 revocation HASH  4 revocation-head HASH  5 audit STREAM  6 audit-head STRING
  then for each session to be ended: session HASH, session-of ZSET
ARGV
  1 now ms (tests only, else '')  2 channel of policies  3 most members  4 most audit events kept
  5 an epoch, should there be none  6 audit event  7 by whom  8 about (JSON)  9 number of members (at most 16)
  then for each, no two the same: member, lasts ms, '1' if it spares what is issued later, user type of a ceiling ('':
  takes the ceiling away), what is kept of it (only Rust reads it)
  then for each session to be ended: its digest
Returns  {1, number, members that were not there or kill more now}, or {0, members there}
]]
local scope_key, revoked_key, revocation_key, head_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, pack, format = redis.call, struct.pack, string.format
local now, now_ceil = now_ms(ARGV[1])
local members = tonumber(ARGV[9])
-- One that would only end this much later is a repetition.
local AGAIN_MS = 60000

--- Whether a revocation kills more than the one that is kept for its member.
local function kills_more(kept, expiry, until_ms, not_before, ceiling)
  local _, kept_not_before, kept_ceiling = struct.unpack(REVOKED, kept)
  return kept_ceiling ~= ceiling or kept_not_before < not_before or expiry + AGAIN_MS < until_ms
end

local fresh, changed, gone, entries, new = {}, {}, {}, {}, 0
for i = 1, members do
  local at = 10 + 5 * (i - 1)
  local member, until_ms, ceiling = ARGV[at], now_ceil + tonumber(ARGV[at + 1]), ARGV[at + 3]
  local not_before = ARGV[at + 2] == '1' and now_ceil or 0
  local expiry = tonumber(call('ZSCORE', revoked_key, member) or '0')
  local kept = expiry > now and call('HGET', revocation_key, member)
  if ceiling == '' and string.sub(member, 1, 2) == 'u:' then
    if expiry > now then gone[#gone + 1] = member end
  elseif not kept or kills_more(kept, expiry, until_ms, not_before, ceiling) then
    if expiry <= now then new = new + 1 end
    until_ms = math.max(until_ms, expiry)
    fresh[#fresh + 1] = format('%d', until_ms)
    fresh[#fresh + 1] = member
    entries[#entries + 1] = member
    entries[#entries + 1] = pack('<ddB', now_ceil, not_before, #ceiling) .. ceiling .. ARGV[at + 4]
  end
  changed[i] = member
end

local number, epoch = revocations_read(scope_key, head_key)
local alive = call('ZCOUNT', revoked_key, '(' .. format('%d', now), '+inf')
if new > 0 and alive + new > tonumber(ARGV[3]) then return { 0, alive } end

local count, sessions = #entries / 2, 0
for i = 7, #KEYS, 2 do sessions = sessions + call('EXISTS', KEYS[i]) end
local moves = count + #gone > 0
if not moves and sessions == 0 then return { 1, number, 0 } end
local what = table.concat(changed, ' ') .. format('%d', now)
-- First: nothing is taken back where it cannot be recorded, and no script takes back what it wrote.
audit_append(KEYS[5], KEYS[6], ARGV[4], {
  'event', ARGV[6], 'at', format('%d', now), 'by', ARGV[7], 'about', ARGV[8],
  'revocations', format('%d', moves and revocations_next(number, what) or number),
})
-- What has expired kills nothing; it goes when something changes, so that a set of the same number is the same set.
if moves then
  local expired = call('ZRANGEBYSCORE', revoked_key, '-inf', format('%d', now), 'LIMIT', '0', '512')
  for i = 1, #expired do gone[#gone + 1] = expired[i] end
  if #gone > 0 then
    call('ZREM', revoked_key, unpack(gone))
    call('HDEL', revocation_key, unpack(gone))
  end
  if #fresh > 0 then
    call('ZADD', revoked_key, unpack(fresh))
    call('HSET', revocation_key, unpack(entries))
  end
end
for i = 7, #KEYS, 2 do
  call('DEL', KEYS[i])
  call('ZREM', KEYS[i + 1], ARGV[10 + 5 * members + (i - 7) / 2])
end
if epoch == '' then call('HSET', head_key, 'epoch', ARGV[5]) end
if moves then number = revocations_advance(scope_key, head_key, number, what, ARGV[2]) end
return { 1, number, count }
