"""The leaderboard as a folder of web pages: data (`content`) -> figures and downloads -> pages -> a folder."""
