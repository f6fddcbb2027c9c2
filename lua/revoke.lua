--[[
Revokes: what these members name is dead from here on.

Guarantees
  - From the moment it returns, `admit` decides for nobody who has not read these members, and `claim` says so.
  - Once is as good as twice: a member that is there stays as it is, unless it would now kill more.
  - Members, number, audit event and message at once, or nothing. The sessions it ends are gone with it.
  - No more than `most` members that have not expired; beyond, nothing is revoked and the caller is told.

KEYS
  1 scope STRING  2 revoked ZSET  3 revocation HASH  4 revoked-order ZSET  5 revocation-head HASH  6 audit STREAM
  7 audit-head STRING
  then for each session to be ended: session HASH, session-of ZSET
ARGV
  1 now ms (tests only, else '')  2 channel of policies  3 most members  4 most audit events kept
  5 an epoch, should there be none  6 audit event  7 by whom  8 about (JSON)  9 number of members (at most 16)
  then for each, no two the same: member, lasts ms, ms from now after which what is issued is spared ('': nothing is),
  what is kept of it (only Rust reads it)
  then for each session to be ended: its digest
Returns  {1, number, members that were not there or kill more now}, or {0, members there}
]]
local keys = { scope = KEYS[1], revoked = KEYS[2], revocation = KEYS[3], order = KEYS[4], head = KEYS[5] }
local call, format = redis.call, string.format
local now, now_ceil = now_ms(ARGV[1])
local members = tonumber(ARGV[9])
-- One that would only end this much later is a repetition.
local AGAIN_MS = 60000

local fresh, entries, new = {}, {}, 0
for i = 1, members do
  local at = 10 + 4 * (i - 1)
  local member, until_ms, later_ms = ARGV[at], now_ceil + tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local not_before, slack = later_ms and now_ceil + later_ms or 0, (later_ms or 0) > 0 and AGAIN_MS or 0
  local expiry, spared = revoked_kept(keys, now, member)
  local changes = not spared or spared + slack < not_before or expiry + AGAIN_MS < until_ms
  if spared then until_ms, not_before = math.max(until_ms, expiry), math.max(not_before, spared) end
  if changes then
    if expiry <= now then new = new + 1 end
    fresh[#fresh + 1] = format('%d', until_ms)
    fresh[#fresh + 1] = member
    entries[#entries + 1] = member
    entries[#entries + 1] = revoked_packed(now_ceil, not_before, '', ARGV[at + 3])
  end
end

local number, epoch = revocations_read(keys.scope, keys.head)
if new > 0 then
  local alive = revoked_alive(keys.revoked, now)
  if alive + new > tonumber(ARGV[3]) then return { 0, alive } end
end

local count, sessions = #entries / 2, 0
for i = 8, #KEYS, 2 do sessions = sessions + call('EXISTS', KEYS[i]) end
if count + sessions == 0 then return { 1, number, 0 } end
-- First: nothing is taken back where it cannot be recorded, and no script takes back what it wrote.
audit_append(KEYS[6], KEYS[7], ARGV[4], {
  'event', ARGV[6], 'at', format('%d', now), 'by', ARGV[7], 'about', ARGV[8],
  'revocations', format('%d', count > 0 and revocations_next(number, revoked_what(fresh, entries)) or number),
})
for i = 8, #KEYS, 2 do
  call('DEL', KEYS[i])
  call('ZREM', KEYS[i + 1], ARGV[10 + 4 * members + (i - 8) / 2])
end
if epoch == '' then call('HSET', keys.head, 'epoch', ARGV[5]) end
if count > 0 then number = revoked_store(keys, now, number, fresh, entries, ARGV[2]) end
return { 1, number, count }
