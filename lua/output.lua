--[[
Appends pieces of streamed output to a task, under its lease.

Guarantees  A stale token writes nothing. Pieces are numbered within the attempt, without a gap.
KEYS  1 run HASH  2 output STREAM
ARGV  1 now ms (tests only, else '')  2 task id  3 token  4 ms the output is kept from now  5 most pieces kept
      6 channel of changes  then the pieces (at most 64)
Returns  1 written, 0 stale
]]
local run_key, output_key = KEYS[1], KEYS[2]
local run = redis.call('HGET', run_key, ARGV[2])
if not run then return 0 end
local token, attempt = struct.unpack(RUN, run)
if token ~= tonumber(ARGV[3]) then return 0 end
local id = string.format('%d-*', attempt)
for i = 7, #ARGV do redis.call('XADD', output_key, 'MAXLEN', '~', ARGV[5], id, 'd', ARGV[i]) end
redis.call('PEXPIRE', output_key, ARGV[4])
redis.call('PUBLISH', ARGV[6], ARGV[2])
return 1
