--[[
Makes a document the scope's policy, if the stored one is still the one its author saw: document, revision record with
before and after, audit event and message at once, or nothing.

Guarantees
  - Of two writers that saw the same policy one wins; nothing of the other's is stored.
  - Revisions are contiguous: a success raises the revision by exactly one.
  - From the moment it returns, `admit` decides for nobody who holds another policy.
  - Called again with the same write id, it stores nothing and answers as before.

KEYS  1 scope STRING  2 policy HASH  3 revision HASH  4 audit STREAM  5 audit-head STRING
ARGV
  1 now ms (tests only, else '')  2 stamp its author saw  3 document  4 twenty bits of its digest
  5 about: who, why, how (only Rust reads it)  6 actor  7 write id  8 most revisions kept  9 most audit events kept
  10 channel of policies
Returns  {1, stamp, time ms} stored, or {0, current stamp}
]]
local scope_key, policy_key, revision_key, audit_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = now_ms(ARGV[1])
local stored = redis.call('HMGET', policy_key, 'stamp', 'document', 'at', 'write')
local current = tonumber(stored[1] or '0')
if stored[4] == ARGV[7] then return { 1, current, tonumber(stored[3]) } end
if current ~= tonumber(ARGV[2]) then return { 0, current } end
-- Later than what it replaces whatever the clock says: which policy is newer is told by these times.
local at = math.max(now, tonumber(stored[3] or '0') + 1)
local stamp = (revision_of(current) + 1) * STAMP_UNIT + tonumber(ARGV[4])
policy_store({
  key = policy_key, scope_key = scope_key, revision_key = revision_key, audit_key = audit_key,
  audit_head_key = KEYS[5], channel = ARGV[10],
  stamp = stamp, document = ARGV[3], before = stored[2] or '', at = at, about = ARGV[5], write = ARGV[7],
  most_revisions = tonumber(ARGV[8]), most_events = ARGV[9],
}, 'policy_revised', ARGV[6], now)
return { 1, stamp, at }
