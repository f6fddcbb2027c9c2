--[[
Appends pieces of streamed output to a task, under its lease.

Guarantees  A stale token writes nothing. Pieces are numbered within the attempt, without a gap, and the caller says
            which number the first one has: a call that is repeated, or arrives late, writes nothing twice.
KEYS  1 run HASH  2 output STREAM
ARGV  1 task id  2 token  3 number of pieces before these  4 ms the output is kept from now  5 most pieces kept
      6 channel of changes  then the pieces (at most 64)
Returns  1 they are there, 0 stale
]]
local run_key, output_key = KEYS[1], KEYS[2]
local run = redis.call('HGET', run_key, ARGV[1])
if not run then return 0 end
local token, attempt = struct.unpack(RUN, run)
if token ~= tonumber(ARGV[2]) then return 0 end

-- A stream counts from 0: piece n of attempt a has the id a-(n-1).
local next_sequence, first = 0, tonumber(ARGV[3])
local last = redis.call('XREVRANGE', output_key, '+', '-', 'COUNT', '1')[1]
if last then
  local of_attempt, sequence = string.match(last[1], '^(%d+)-(%d+)$')
  if tonumber(of_attempt) == attempt then next_sequence = tonumber(sequence) + 1 end
end
for i = 7, #ARGV do
  local sequence = first + i - 7
  if sequence >= next_sequence then
    redis.call('XADD', output_key, 'MAXLEN', '~', ARGV[5], string.format('%d-%d', attempt, sequence), 'd', ARGV[i])
  end
end
redis.call('PEXPIRE', output_key, ARGV[4])
redis.call('PUBLISH', ARGV[6], ARGV[1])
return 1
