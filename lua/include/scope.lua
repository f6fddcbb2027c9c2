--- The scope's own state, packed into one string:
-- [policy stamp][virtual time][last fencing token][measured service ms, 0 until measured][slots][processors]
-- [time the first heartbeat lapses][number of revocations][number of decision batches], 8 bytes each; then 40
-- hexadecimal digits, the hash of the newest decision batch; then for each class of user type
-- [last finish tag][tasks queued].
-- Sums of slots and processors are kept by `heartbeat`; classes are numbered by the policy, from 0. What is missing at
-- the end is 0, as SETRANGE fills it.
local SCOPE = '<ddddddddd'
local SCOPE_NEW = string.rep('\0', 112)
-- Where fields begin, from 0, as SETRANGE counts.
local VIRTUAL_AT, SERVICE_AT, SLOTS_AT, REVOCATIONS_AT, CHAIN_AT, CLASS_AT = '8', '24', '32', '56', '64', 112

--- What GET says of the scope, with what is missing at its end.
local function scope_whole(packed)
  if not packed then return SCOPE_NEW end
  if #packed >= #SCOPE_NEW then return packed end
  return packed .. string.sub(SCOPE_NEW, #packed + 1)
end

--- Last finish tag and number of queued tasks of a class.
local function class_state(scope, class)
  local at = CLASS_AT + 16 * class
  if #scope < at + 16 then return 0, 0 end
  return struct.unpack('<dd', scope, at + 1)
end
