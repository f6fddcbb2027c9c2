--[[
Adds counts of decisions to the statistics of an hour.

KEYS  1 statistics HASH of the hour
ARGV  1 ms the hour is kept  then for each count: field, number (at most 64)
Returns  number of fields
]]
local statistics_key = KEYS[1]
for i = 2, #ARGV, 2 do redis.call('HINCRBY', statistics_key, ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', statistics_key, ARGV[1])
return (#ARGV - 1) / 2
