--[[
Looks a session up, and notes that it was seen: once a minute at most, however often it is asked for.

Guarantees  A session that is over is nobody's, whether its record is still there or not.
KEYS  1 session HASH
ARGV  1 now ms (tests only, else '')
Returns  {} or, of a session that is not over, {record, created ms, expires ms, seen ms}
]]
local session_key = KEYS[1]
local SEEN_EVERY_MS = 60000
local now = now_ms(ARGV[1])
local session = redis.call('HMGET', session_key, 'record', 'created', 'expires', 'seen')
if not session[1] or tonumber(session[3]) <= now then return {} end
local seen = tonumber(session[4])
if now - seen >= SEEN_EVERY_MS then
  redis.call('HSET', session_key, 'seen', string.format('%d', now))
  seen = now
end
return { session[1], tonumber(session[2]), tonumber(session[3]), seen }
