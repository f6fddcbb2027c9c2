--[[
Opens a session: its record, with its end, and the audit event.

Guarantees
  - A principal has at most so many sessions: with one too many the one that ends first is over, and revoked with all
    that came of it, so that nobody lets it in who remembers it. Where as much is revoked as can be, it is only over.
  - No session is opened or ended when one would have to go that the caller did not name: others have
    logged in meanwhile.
  - Nor for who knows of other revocations than are stored: whoever is revoked opens no session that would be spared.

KEYS
  1 session HASH  2 session-of ZSET  3 scope STRING  4 revoked ZSET  5 revocation HASH  6 revoked-order ZSET
  7 revocation-head HASH  8 audit STREAM  9 audit-head STRING
  then the session HASH of each that may have to go
ARGV
  1 now ms (tests only, else '')  2 digest of the new one  3 record (only Rust reads it)  4 lasts ms
  5 most sessions of a principal  6 an epoch of the revocations, should there be none  7 most audit events kept
  8 by whom  9 about (JSON)  10 channel of policies  11 most members revoked  12 ms that a session stays revoked
  13 what is kept of that (only Rust reads it)  14 number of revocations known
  then the digest of each that may have to go, those which end first first (at most 64)
Returns  {created ms, expires ms, sessions that went}, or {} for one that was not named
  or error STALEREVOCATIONS <number stored>
]]
local session_key, of_key = KEYS[1], KEYS[2]
local keys = { scope = KEYS[3], revoked = KEYS[4], revocation = KEYS[5], order = KEYS[6], head = KEYS[7] }
local call, format = redis.call, string.format
local now, now_ceil = now_ms(ARGV[1])
local expires = now + tonumber(ARGV[4])
local stale = revocations_stale(keys.scope, keys.head, ARGV[14])
if stale then return stale end
call('ZREMRANGEBYSCORE', of_key, '-inf', format('%d', now))
local excess, going = math.min(64, call('ZCARD', of_key) + 1 - tonumber(ARGV[5])), {}
if excess > 0 then going = call('ZRANGE', of_key, '0', format('%d', excess - 1)) end
local named = {}
for i = 15, #ARGV do named[ARGV[i]] = KEYS[i - 5] end
for i = 1, #going do
  if not named[going[i]] then return {} end
end

local at = format('%d', now)
-- First: nobody is let in where it cannot be recorded, and no script takes back what it wrote.
audit_append(KEYS[8], KEYS[9], ARGV[7], {
  'event', 'session.created', 'at', at, 'by', ARGV[8], 'about', ARGV[9],
})
local fresh, entries = {}, {}
for i = 1, #going do
  call('DEL', named[going[i]])
  call('ZREM', of_key, going[i])
  local member = 's:' .. going[i]
  fresh[2 * i - 1], fresh[2 * i] = format('%d', now_ceil + tonumber(ARGV[12])), member
  entries[2 * i - 1], entries[2 * i] = member, revoked_packed(now_ceil, 0, '', ARGV[13])
end
call('HSET', session_key, 'record', ARGV[3], 'created', at, 'expires', format('%d', expires), 'seen', at)
call('PEXPIRE', session_key, ARGV[4])
call('ZADD', of_key, format('%d', expires), ARGV[2])
if call('PTTL', of_key) < tonumber(ARGV[4]) then call('PEXPIRE', of_key, ARGV[4]) end
-- Whoever has let somebody in would notice if the data were lost.
call('HSETNX', keys.head, 'epoch', ARGV[6])
if #going > 0 and revoked_alive(keys.revoked, now) + #going <= tonumber(ARGV[11]) then
  revoked_store(keys, now, revocations_read(keys.scope, keys.head), fresh, entries, ARGV[10])
end
return { now, expires, #going }
