from tests.support.fixtures import arena as arena
from tests.support.fixtures import overlay as overlay
from tests.support.fixtures import scratch as scratch
