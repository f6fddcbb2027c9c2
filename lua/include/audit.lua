--- The audit stream: everything that is changed or refused for good and is no decision of `admit`. A chain, whose head
-- (number and hash of the newest entry) has a key of its own, so that taking away the newest is noticed as well.

--- Appends events. The fields of each are names and values in turn, all strings; `n` goes before them.
local function audit_append_all(audit_key, head_key, most, events)
  local packed, number, hash = redis.call('GET', head_key), 0, CHAIN_BEGIN
  if packed then number, hash = struct.unpack('<d', packed), string.sub(packed, 9) end
  for e = 1, #events do
    local fields, prev = events[e], hash
    number = number + 1
    local entry = { 'n', string.format('%d', number) }
    for i = 1, #fields do entry[2 + i] = fields[i] end
    hash = chain_hash(prev, entry)
    redis.call('XADD', audit_key, 'MAXLEN', '~', most, '*', 'prev', prev, 'hash', hash, unpack(entry))
  end
  redis.call('SET', head_key, struct.pack('<d', number) .. hash)
end

--- Appends one event.
local function audit_append(audit_key, head_key, most, fields)
  audit_append_all(audit_key, head_key, most, { fields })
end
