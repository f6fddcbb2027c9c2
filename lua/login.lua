--[[
Opens a session: its record, with its end, and the audit event.

Guarantees
  - A principal has at most so many sessions: with one too many the one that ends first is over.
  - No session is opened or ended when one would have to go that the caller did not name: others have
    logged in meanwhile.

KEYS
  1 session HASH  2 session-of ZSET  3 revocation-head HASH  4 audit STREAM  5 audit-head STRING
  then the session HASH of each that may have to go
ARGV
  1 now ms (tests only, else '')  2 digest of the new one  3 record (only Rust reads it)  4 lasts ms
  5 most sessions of a principal  6 an epoch of the revocations, should there be none  7 most audit events kept
  8 by whom  9 about (JSON)  then the digest of each that may have to go, those which end first first (at most 64)
Returns  {created ms, expires ms, sessions that went}, or {} for one that was not named
]]
local session_key, of_key, head_key = KEYS[1], KEYS[2], KEYS[3]
local call, format = redis.call, string.format
local now = now_ms(ARGV[1])
local expires = now + tonumber(ARGV[4])
call('ZREMRANGEBYSCORE', of_key, '-inf', format('%d', now))
local excess, going = math.min(64, call('ZCARD', of_key) + 1 - tonumber(ARGV[5])), {}
if excess > 0 then going = call('ZRANGE', of_key, '0', format('%d', excess - 1)) end
local keys = {}
for i = 10, #ARGV do keys[ARGV[i]] = KEYS[i - 4] end
for i = 1, #going do
  if not keys[going[i]] then return {} end
end

local at = format('%d', now)
-- First: nobody is let in where it cannot be recorded, and no script takes back what it wrote.
audit_append(KEYS[4], KEYS[5], ARGV[7], {
  'event', 'session.created', 'at', at, 'by', ARGV[8], 'about', ARGV[9],
})
for i = 1, #going do
  call('DEL', keys[going[i]])
  call('ZREM', of_key, going[i])
end
call('HSET', session_key, 'record', ARGV[3], 'created', at, 'expires', format('%d', expires), 'seen', at)
call('PEXPIRE', session_key, ARGV[4])
call('ZADD', of_key, format('%d', expires), ARGV[2])
if call('PTTL', of_key) < tonumber(ARGV[4]) then call('PEXPIRE', of_key, ARGV[4]) end
-- Whoever has let somebody in would notice if the data were lost.
call('HSETNX', head_key, 'epoch', ARGV[6])
return { now, expires, #going }
