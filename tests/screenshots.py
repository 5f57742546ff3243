"""The pictures in the documentation, taken of the demo: `python -m tests.screenshots` (or with a folder, all of them there)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.browsing import chromium
from tests.tracking.running import RunningServer
from tracking.conf import PROJECT_ROOT

IMAGES = PROJECT_ROOT / "docs" / "images"
PAGES = {
    "dashboard": "/dashboard",
    "campaign": "/dashboard/campaigns/1",
    "message": "/dashboard/messages/3",
    "docs": "/api/docs",
}
SIZES = {"desktop": (1280, 800), "phone": (375, 812)}


def take(folder: Path, every: bool) -> None:
    """Take the dashboard in light; with `every` all pages, on desktop and phone, in light and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        server = RunningServer(Path(place), TRACKING_BASE_URL="http://localhost:5000")
        subprocess.run([sys.executable, "-m", "tracking.demo"], env=server.environment(), cwd=PROJECT_ROOT, check=True)
        with server, chromium() as browser:
            for size, (width, height) in SIZES.items():
                for scheme in ("light", "dark"):
                    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=2)
                    page = context.new_page()
                    for name, path in PAGES.items():
                        if every:
                            page.goto(server.base_url + path, wait_until="networkidle")
                            page.screenshot(path=folder / f"{name}-{size}-{scheme}.png", full_page=True)
                        elif (name, size, scheme) == ("dashboard", "desktop", "light"):
                            page.goto(server.base_url + path, wait_until="networkidle")
                            page.screenshot(path=folder / "dashboard.png", clip={"x": 0, "y": 0, "width": width, "height": 620})
                    context.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]) if sys.argv[1:] else IMAGES, every=bool(sys.argv[1:]))
