"""Opens a host or a recording and yields its scenes: the one way in for every command and library user."""

from .host import SceneHost as SceneHost
from .live import Host as Host
from .opening import SOURCES as SOURCES
from .opening import open_host as open_host
from .recorded import RecordedHost as RecordedHost
from .recorded import open_recording as open_recording
