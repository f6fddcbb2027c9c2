--[[
A processor has left: its slots count for nothing and its name is forgotten. Leaving twice is the same as once.

KEYS  1 scope STRING  2 processor HASH  3 beat ZSET
ARGV  1 worker
Returns  1 if it was known, else 0
]]
local scope_key, processor_key, beat_key = KEYS[1], KEYS[2], KEYS[3]
local beat = redis.call('HGET', processor_key, ARGV[1])
if not beat then return 0 end
local counted, count = struct.unpack(HEARTBEAT, beat)
redis.call('HDEL', processor_key, ARGV[1])
redis.call('ZREM', beat_key, ARGV[1])
local _, _, _, _, slots, processors = struct.unpack(SCOPE, scope_whole(redis.call('GET', scope_key)))
redis.call('SETRANGE', scope_key, SLOTS_AT, struct.pack('<dd', slots - count * counted, processors - counted))
return 1
