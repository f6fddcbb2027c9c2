--- What a gateway reports: [stamp held][since ms][time][counts until ms] and then what else it says.
local REPORT = '<dddd'
