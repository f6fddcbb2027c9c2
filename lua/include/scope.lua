--- The scope's own state, packed into one string:
-- [policy stamp][virtual time][last fencing token][measured service ms, 0 until measured][slots][processors]
-- [time the first heartbeat lapses], 8 bytes each, then for each class of user type [last finish tag][tasks queued].
-- Sums of slots and processors are kept by `heartbeat`; classes are numbered by the policy, from 0. What is missing at
-- the end is 0, as SETRANGE fills it.
local SCOPE = '<ddddddd'
local ZERO = '\0\0\0\0\0\0\0\0'
local SCOPE_NEW = ZERO .. ZERO .. ZERO .. ZERO .. ZERO .. ZERO .. ZERO
-- Where fields begin, from 0, as SETRANGE counts.
local VIRTUAL_AT, SERVICE_AT, SLOTS_AT, CLASS_AT = '8', '24', '32', 56

--- Last finish tag and number of queued tasks of a class.
local function class_state(scope, class)
  local at = CLASS_AT + 16 * class
  if #scope < at + 16 then return 0, 0 end
  return struct.unpack('<dd', scope, at + 1)
end
