--- A stamp names one stored policy: its revision, and twenty bits of its document's digest. Two documents that were
-- given the same revision on two sides of a failover have different stamps. 0 is no stored policy.
local STAMP_UNIT = 1048576
local function revision_of(stamp) return math.floor(stamp / STAMP_UNIT) end

--- The stored policy becomes this one: document, revision record with what was before, the scope's stamp, audit event,
-- message. The only way a scope's stamp changes.
local function policy_store(policy, event, by, now)
  local call, format = redis.call, string.format
  local number = revision_of(policy.stamp)
  local stamp = format('%d', policy.stamp)
  -- First: nothing changes where it cannot be recorded, and no script takes back what it wrote.
  audit_append(policy.audit_key, policy.audit_head_key, policy.most_events, {
    'event', event, 'at', format('%d', now), 'by', by, 'revision', format('%d', number), 'about', policy.about,
  })
  call('HSET', policy.key, 'stamp', stamp, 'document', policy.document, 'at', format('%d', policy.at),
    'about', policy.about, 'write', policy.write)
  call('HSET', policy.revision_key, format('%d', number),
    struct.pack('<dI4I4', policy.at, #policy.about, #policy.before) .. policy.about .. policy.before .. policy.document)
  -- By what is there, not by counting: the bound may have been lowered, and a loss of data leaves gaps.
  if call('HLEN', policy.revision_key) > policy.most_revisions then
    local gone = {}
    for _, kept in ipairs(call('HKEYS', policy.revision_key)) do
      if tonumber(kept) <= number - policy.most_revisions and #gone < 512 then gone[#gone + 1] = kept end
    end
    if #gone > 0 then call('HDEL', policy.revision_key, unpack(gone)) end
  end
  call('SETRANGE', policy.scope_key, '0', struct.pack('<d', policy.stamp))
  call('PUBLISH', policy.channel, stamp)
end
