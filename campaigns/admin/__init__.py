from campaigns.admin import pages as pages
