--[[
A replica that holds another policy than is stored gives it back where it is the newer one: after Redis lost its data,
came back from an older copy, or failed over without the last writes.

Guarantees
  - Of held and stored the one written later wins, whoever asks and in whatever order; of the same time, the one with
    the higher stamp.
  - The stamp never falls: a winner whose revision is not above the loser's is stored under the next one.
  - A replica that is merely behind changes nothing.

KEYS  1 scope STRING  2 policy HASH  3 revision HASH  4 audit STREAM  5 audit-head STRING
ARGV
  1 now ms (tests only, else '')  2 stamp held  3 document held  4 time it was written, ms  5 about  6 replica
  7 write id  8 most revisions kept  9 most audit events kept  10 channel of policies
Returns  the stamp stored now
]]
local scope_key, policy_key, revision_key, audit_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, now = redis.call, now_ms(ARGV[1])
local held, held_at = tonumber(ARGV[2]), tonumber(ARGV[4])
local stored = call('HMGET', policy_key, 'stamp', 'document', 'at', 'about', 'write')
local current, at = tonumber(stored[1] or '0'), tonumber(stored[3] or '0')
local held_wins = held_at > at or (held_at == at and held > current)
local winner, loser = current, held
if held_wins then winner, loser = held, current end
if not held_wins and (held == current or revision_of(current) > revision_of(held)) then
  -- Nothing to give back, unless the scope lost its stamp on its own.
  call('SETRANGE', scope_key, '0', struct.pack('<d', current))
  return current
end
local policy = {
  key = policy_key, scope_key = scope_key, revision_key = revision_key, audit_key = audit_key,
  audit_head_key = KEYS[5], channel = ARGV[10],
  most_revisions = tonumber(ARGV[8]), most_events = ARGV[9], stamp = winner,
}
if held_wins then
  policy.document, policy.before, policy.at = ARGV[3], stored[2] or '', held_at
  policy.about, policy.write = ARGV[5], ARGV[7]
else
  policy.document, policy.before, policy.at, policy.about, policy.write = stored[2], ARGV[3], at, stored[4], stored[5]
end
if revision_of(winner) <= revision_of(loser) then
  policy.stamp = (revision_of(loser) + 1) * STAMP_UNIT + winner % STAMP_UNIT
end
policy_store(policy, 'policy_restored', ARGV[6], now)
return policy.stamp
